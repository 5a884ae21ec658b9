//! Can the hosts be reached, by the way the config names, and what time is it there?
//!
//! A name that does not resolve, a closed port, a proxy and TLS each need somebody else to put them
//! right, so they are told apart.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::Full;
use tokio::time::Instant;
use url::Url;

use super::Patient;
use super::report::{Cause, Step};
use crate::http::{HttpError, Trouble, read_all, server_time};

/// How long one answer may take: shorter than in a run, since a person waits.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// Bodies that are looked at have a few kilobytes.
const BODY_BYTES: usize = 1 << 20;
/// Difference of the clocks that is nobody's concern, and that breaks sign-ins.
const SLIGHT_MS: i64 = 60_000;
const GRAVE_MS: i64 = 300_000;

/// What came of asking a host.
pub(super) enum Reached {
    Not,
    Answered {
        host: String,
        status: StatusCode,
        body: Bytes,
        /// Our clock minus the host's.
        skew_ms: Option<i64>,
    },
}

impl Reached {
    pub(super) fn is_reached(&self) -> bool {
        matches!(self, Self::Answered { .. })
    }
}

impl Patient<'_> {
    /// Resolves, connects and asks, as a run would.
    pub(super) async fn reach(
        &self,
        which: &'static str,
        url: &Url,
        steps: &mut Vec<Step>,
    ) -> Reached {
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or_default();
        let about = format!("{host}:{port}");
        let proxy = self.client.proxy_for(url);
        let (step, resolved) = match &proxy {
            Some(proxy) => {
                let why = format!("proxy `{proxy}` resolves the name");
                (Step::new("dns", host).skip(why), true)
            }
            None => resolve(host, port).await,
        };
        steps.push(step);
        let step = Step::new(which, &about);
        if !resolved {
            steps.push(step.skip("its name has no address"));
            return Reached::Not;
        }
        let begun = Instant::now();
        let answer = self.get(url).await;
        let way = match (&proxy, url.scheme()) {
            (Some(proxy), _) => format!("by proxy `{proxy}`"),
            (None, "https") => "directly, with TLS".to_owned(),
            (None, _) => "directly, without TLS".to_owned(),
        };
        match answer {
            Ok((StatusCode::PROXY_AUTHENTICATION_REQUIRED, ..)) => {
                let found = format!("{way}: it wants another user name or password (407)");
                let fix = "check key `http.proxy`: `username` and `password`".to_owned();
                steps.push(step.fail(Cause::ProxyFailed, found, fix));
                Reached::Not
            }
            Ok((status, skew_ms, body)) => {
                let millis = begun.elapsed().as_millis();
                steps.push(step.ok(format!("{way}: it answers, after {millis} ms")));
                let host = about;
                Reached::Answered {
                    host,
                    status,
                    body,
                    skew_ms,
                }
            }
            Err(error) => {
                let (cause, fix) = cause_of(&error, proxy.as_deref());
                steps.push(step.fail(cause, format!("{way}: {}", error.what), fix));
                Reached::Not
            }
        }
    }

    async fn get(&self, url: &Url) -> Result<(StatusCode, Option<i64>, Bytes), HttpError> {
        let host = url.host_str().unwrap_or_default();
        let request = http::Request::get(url.as_str())
            .header(http::header::ACCEPT, "application/json")
            .body(Full::default())
            .map_err(|_| HttpError::unsendable(host))?;
        let sent_ms = self.clock.now_ms();
        let (head, body) = self.client.send(request).await?.into_parts();
        let now_ms = i64::midpoint(sent_ms, self.clock.now_ms());
        let skew_ms = server_time(&head.headers).map(|server| now_ms - server);
        let body = read_all(host, body, BODY_BYTES).await.unwrap_or_default();
        Ok((head.status, skew_ms, body))
    }

    /// Our clock against those of the hosts.
    pub(super) fn compare_clocks(&self, hosts: &[&Reached]) -> Step {
        let step = Step::new("clock", "");
        let told = hosts.iter().find_map(|reached| match reached {
            Reached::Answered {
                host,
                skew_ms: Some(skew_ms),
                ..
            } => Some((host, *skew_ms)),
            _ => None,
        });
        let Some((host, skew_ms)) = told else {
            return step.skip("no host said what time it is");
        };
        judge_clock(step, host, skew_ms)
    }
}

fn judge_clock(step: Step, host: &str, skew_ms: i64) -> Step {
    let way = if skew_ms < 0 { "behind" } else { "ahead of" };
    let seconds = skew_ms.unsigned_abs() / 1000;
    let found = format!("this machine's clock is {seconds} s {way} `{host}`");
    let fix = "set this machine's clock right and keep it right (NTP: `timedatectl set-ntp true`); \
        certificate sign-ins fail and windows of content are asked for at the wrong time";
    match skew_ms.abs() {
        0..=1_999 => step.ok(format!("the same as that of `{host}`")),
        2_000..=SLIGHT_MS => step.ok(found),
        ..=GRAVE_MS => step.warn(Cause::ClockOff, found, fix.to_owned()),
        _ => step.fail(Cause::ClockOff, found, fix.to_owned()),
    }
}

async fn resolve(host: &str, port: u16) -> (Step, bool) {
    let step = Step::new("dns", host);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if bare.parse::<std::net::IpAddr>().is_ok() {
        return (step.ok("it is an address".into()), true);
    }
    let fail = |step: Step, found: String| {
        let fix = "check the host's spelling, and that this machine's name servers know public \
            names; where only a proxy does, name it in `http.proxy`";
        (step.fail(Cause::DnsFailed, found, fix.into()), false)
    };
    match tokio::time::timeout(PATIENCE, tokio::net::lookup_host((host, port))).await {
        Ok(Ok(found)) => {
            let mut found: Vec<String> = found.map(|address| address.ip().to_string()).collect();
            found.dedup();
            let more = found.len().saturating_sub(2);
            found.truncate(2);
            let more = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            (step.ok(format!("{}{more}", found.join(", "))), true)
        }
        Ok(Err(error)) => {
            let why = crate::secret::plain(&error);
            fail(step, format!("the name cannot be resolved: {why}"))
        }
        Err(_) => fail(step, "the name servers do not answer".into()),
    }
}

/// Which obstacle it is, and who has to move it.
fn cause_of(error: &HttpError, proxy: Option<&str>) -> (Cause, String) {
    let by_proxy = |otherwise: Cause| {
        if proxy.is_some() {
            Cause::ProxyFailed
        } else {
            otherwise
        }
    };
    let cause = match error.trouble {
        Trouble::Dns => by_proxy(Cause::DnsFailed),
        Trouble::Connect => by_proxy(Cause::ConnectionRefused),
        Trouble::Timeout => Cause::ConnectionTimedOut,
        Trouble::Proxy => Cause::ProxyFailed,
        Trouble::Tls => Cause::TlsFailed,
        Trouble::Request | Trouble::Protocol | Trouble::TooLarge => Cause::NetworkBroken,
    };
    let fix = match (cause, proxy) {
        (Cause::ProxyFailed, Some(proxy)) => {
            format!(
                "check key `http.proxy`: is `{proxy}` right, does it listen, and does it let this \
                 machine through to the host?"
            )
        }
        (Cause::ConnectionRefused, _) => {
            "nothing listens there, or a firewall refuses: allow outgoing TCP to this host and port, \
             or name the proxy in `http.proxy`"
                .to_owned()
        }
        (Cause::ConnectionTimedOut, _) => {
            "a firewall drops the packets, most likely: allow outgoing TCP to this host and port, \
             or name the proxy in `http.proxy`"
                .to_owned()
        }
        _ => error.help().to_owned(),
    };
    (cause, fix)
}

#[cfg(test)]
mod tests {
    use super::super::report::Status;
    use super::*;

    #[test]
    fn a_clock_is_judged_by_what_it_breaks() {
        for (skew_ms, status) in [
            (0, Status::Ok),
            (-1_999, Status::Ok),
            (59_000, Status::Ok),
            (61_000, Status::Warn),
            (-300_000, Status::Warn),
            (300_001, Status::Fail),
            (-3_600_000, Status::Fail),
        ] {
            let step = judge_clock(Step::new("clock", ""), "h", skew_ms);
            assert_eq!(step.status, status, "{skew_ms}: {}", step.found);
        }
        let step = judge_clock(Step::new("clock", ""), "h", -3_600_000);
        assert!(step.found.contains("3600 s behind"), "{}", step.found);
    }
}
