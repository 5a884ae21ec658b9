//! Sink `socket`: TCP, UDP and Unix sockets, in the forms that log servers read.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::When;
use super::address::Address;
use super::request::{BatchSection, Compression, Delivery, RequestSection, Shared, TlsSection};
use crate::config::check::Scope;
use crate::config::decode::Part;
use crate::config::limits::in_range;
use crate::config::report::Path;
use crate::config::unit::Size;

/// Most bytes of a datagram: what UDP over IPv4 carries.
const UDP_BYTES: u64 = 65_507;

/// Most bytes of a message that Wazuh's analysisd takes.
const WAZUH_BYTES: u64 = 65_535;

/// What is sent in one datagram of chunked GELF unless it is set: fits into an Ethernet frame.
const CHUNK_BYTES: u64 = 1_420;

/// Sends events over TCP, UDP or a Unix socket, as lines of JSON, GELF, syslog, or as Wazuh reads them. None of these
/// has an acknowledgement of its own. Over `tcp` an event counts as delivered when the receiver's machine has
/// confirmed every byte, or with `confirm: read` when the receiving program has read them all; over Unix sockets when
/// the receiving program has taken them; over `udp` when they are sent, so what is lost on the way is lost. What a
/// receiver holds in memory when it is killed is lost in any case. After a crash, or when a connection breaks, events
/// come again. Requests go one at a time and in order, unless `request.concurrency` is a number.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "socket", extend("examples" = [{
    "mode": "tcp", "address": "logs.example.com:6514", "encoding": { "codec": "json" },
}]))]
pub struct SocketSection {
    /// Its name in logs and metrics; needed when two sinks are of one kind. Default: the kind.
    pub name: Option<String>,
    /// The kind of socket.
    pub mode: Mode,
    /// Host and port, for `tcp` and `udp`.
    #[schemars(extend("examples" = ["logs.example.com:6514"]))]
    pub address: Option<String>,
    /// The socket's file, for `unix_stream` and `unix_datagram`.
    #[schemars(extend("examples" = ["/var/ossec/queue/sockets/queue"]))]
    pub path: Option<String>,
    /// How an event is written.
    pub encoding: Part<EncodingSection>,
    /// When events count as delivered, for `tcp` and `unix_stream`.
    #[serde(default)]
    pub confirm: Confirm,
    /// Largest message. An event that needs more becomes a dead letter, since receivers cut or drop what is too large
    /// for them. Default: `65507B` for `udp`, `65535B` for `unix_datagram`, else none.
    pub max_message: Option<Size>,
    /// TLS for `tcp`, and how the server is trusted; `tls: {}` is enough. Without it nothing is encrypted.
    pub tls: Option<Part<TlsSection>>,
    /// How events are put together.
    #[serde(default)]
    pub batch: Part<BatchSection>,
    /// How requests are sent. Its `timeout` is the longest time without any progress.
    #[serde(default)]
    pub request: Part<RequestSection>,
    /// Whether events count as delivered only when this sink has them. With `false` it holds nothing up, and drops what
    /// does not fit into its queue.
    #[schemars(extend("default" = true))]
    pub acknowledgements: Option<bool>,
    /// Only events that match go here: a map of field to value or list of values, or a condition in VRL, as for
    /// `filter`.
    #[schemars(extend("examples" = [{ "event.kind": "alert" }]))]
    pub when: When,
}

/// How an event is written.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "socket_encoding")]
pub struct EncodingSection {
    /// The form.
    pub codec: Codec,
    /// Who the event is from, for `gelf` and `syslog`. `{tenant}` and `{stream}` are filled in. Default: `{tenant}`.
    pub host: Option<String>,
    /// The facility, for `syslog`. Default: `user`.
    pub facility: Option<Facility>,
    /// The severity, for `syslog` and as `level` for `gelf`. Default: `informational`.
    pub severity: Option<Severity>,
    /// The name of the application, for `syslog`. Default: `sluicegate`.
    pub app_name: Option<String>,
    /// The id of an element of structured data with tenant, stream and the event's id, for `syslog`: a name, `@` and
    /// your private enterprise number. Default: no structured data.
    #[schemars(extend("examples" = ["sluicegate@32473"]))]
    pub structured_data: Option<String>,
    /// Most bytes of one datagram, for `gelf` over `udp` and `unix_datagram`; a longer message goes in up to 128 of
    /// them. Default: `1420B` for `udp`, `8192B` for `unix_datagram`.
    pub chunk_size: Option<Size>,
    /// The location of Wazuh's message, for `wazuh`. `{tenant}` and `{stream}` are filled in. Default: `office365`.
    pub location: Option<String>,
    /// Puts the event under this name and names it as `integration`, for `wazuh`, as its rules for integrations want
    /// it.
    #[schemars(extend("examples" = ["office365"]))]
    pub integration: Option<String>,
}

/// The kind of socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "socket_mode", inline)]
pub enum Mode {
    /// A TCP connection, with `tls` an encrypted one.
    Tcp,
    /// UDP datagrams.
    Udp,
    /// A Unix stream socket.
    UnixStream,
    /// A Unix datagram socket.
    UnixDatagram,
}

impl Mode {
    /// Whether each message is a datagram of its own.
    pub fn is_datagram(self) -> bool {
        matches!(self, Self::Udp | Self::UnixDatagram)
    }
}

/// The form of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "codec", inline)]
pub enum Codec {
    /// The event as it is; on a stream one a line.
    Json,
    /// GELF 1.1; on a stream each ends with a NUL, datagrams are chunked.
    Gelf,
    /// Syslog after RFC 5424 with the event as its message; on a stream counted by octets (RFC 6587, RFC 5425).
    Syslog,
    /// What Wazuh's analysisd reads from its queue.
    Wazuh,
}

/// When events count as delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "confirm", inline)]
pub enum Confirm {
    /// When the receiver's system has them (over `unix_stream`: when the receiving program has read them). The
    /// connection stays open.
    #[default]
    Received,
    /// When the receiving program has read them: after each request our side of the connection is closed, and the
    /// receiver closes its side when it has read everything, as log servers do. To one that never closes it, everything
    /// is sent again and again.
    Read,
}

/// A syslog facility.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "facility", inline)]
pub enum Facility {
    /// 0.
    Kern,
    /// 1.
    User,
    /// 2.
    Mail,
    /// 3.
    Daemon,
    /// 4.
    Auth,
    /// 5.
    Syslog,
    /// 6.
    Lpr,
    /// 7.
    News,
    /// 8.
    Uucp,
    /// 9.
    Cron,
    /// 10.
    Authpriv,
    /// 11.
    Ftp,
    /// 12.
    Ntp,
    /// 13: log audit.
    Security,
    /// 14: log alert.
    Console,
    /// 15.
    SolarisCron,
    /// 16.
    Local0,
    /// 17.
    Local1,
    /// 18.
    Local2,
    /// 19.
    Local3,
    /// 20.
    Local4,
    /// 21.
    Local5,
    /// 22.
    Local6,
    /// 23.
    Local7,
}

/// A syslog severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "severity", inline)]
pub enum Severity {
    /// 0.
    Emergency,
    /// 1.
    Alert,
    /// 2.
    Critical,
    /// 3.
    Error,
    /// 4.
    Warning,
    /// 5.
    Notice,
    /// 6.
    Informational,
    /// 7.
    Debug,
}

/// A socket, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// The kind of socket.
    pub mode: Mode,
    /// Where it is.
    pub target: Target,
    /// How an event is written.
    pub encoding: Encoding,
    /// When events count as delivered.
    pub confirm: Confirm,
    /// Largest message.
    pub max_message: Option<usize>,
    /// Whether the connection is encrypted; how, is in `delivery`.
    pub encrypted: bool,
    /// How requests are sent.
    pub delivery: Delivery,
}

/// Where a socket is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// At a host.
    Address(Address),
    /// In the file system.
    Path(PathBuf),
}

/// How an event is written, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// The event as it is.
    Json,
    /// GELF 1.1.
    Gelf {
        /// Who it is from; may hold `{tenant}` and `{stream}`.
        host: String,
        /// 0 to 7.
        level: u8,
        /// Most bytes of one datagram.
        chunk_bytes: usize,
    },
    /// Syslog after RFC 5424.
    Syslog {
        /// Facility and severity.
        priority: u8,
        /// Who it is from; may hold `{tenant}` and `{stream}`.
        host: String,
        /// The name of the application.
        app_name: String,
        /// The id of the structured data.
        structured_data: Option<String>,
    },
    /// Wazuh's queue.
    Wazuh {
        /// May hold `{tenant}` and `{stream}`.
        location: String,
        /// What the event stands under.
        integration: Option<String>,
    },
}

impl std::fmt::Display for Target {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(address) => address.fmt(formatter),
            Self::Path(path) => path.display().fmt(formatter),
        }
    }
}

impl SocketSection {
    pub(super) fn check(&self, scope: &Scope<'_, '_>, at: &Path) -> Option<Socket> {
        let target = self.target(scope, at);
        let request = self.request.0.clone().unwrap_or_default();
        let shared = Shared {
            batch: &self.batch,
            request: &self.request,
            tls: &self.tls,
            compression: Compression::None,
            acknowledgements: self.acknowledgements,
        };
        let mut delivery = shared.check(scope, at);
        if request.concurrency.is_none() {
            delivery.policy.concurrency = Some(1);
        }
        if self.tls.is_some() && self.mode != Mode::Tcp {
            let what = "`tls` goes with `mode: tcp` only";
            scope.report.add_key(&at.key("tls"), what, "remove it");
        }
        if self.confirm == Confirm::Read && self.mode.is_datagram() {
            let what = "`confirm: read` needs a connection: `mode: tcp` or `mode: unix_stream`";
            scope.report.add(&at.key("confirm"), what, "remove it");
        }
        let encoding = self.encoding.0.as_ref();
        let encoding = encoding.and_then(|section| section.check(scope, at, self.mode));
        let wazuh = matches!(encoding, Some(Encoding::Wazuh { .. }));
        if wazuh && self.mode != Mode::UnixDatagram {
            let what =
                "`codec: wazuh` needs `mode: unix_datagram`: analysisd reads no other socket";
            scope
                .report
                .add(&at.key("mode"), what, "write `mode: unix_datagram`");
        }
        let usual = match self.mode {
            Mode::Udp => Some(UDP_BYTES),
            Mode::UnixDatagram => Some(WAZUH_BYTES),
            Mode::Tcp | Mode::UnixStream => None,
        };
        // GELF is chunked instead.
        let usual = usual.filter(|_| !matches!(encoding, Some(Encoding::Gelf { .. })));
        let most = if wazuh { WAZUH_BYTES } else { 32 << 20 };
        let most = if self.mode == Mode::Udp {
            UDP_BYTES
        } else {
            most
        };
        let written = self.max_message.map(|size| size.0);
        let size = in_range(
            scope.report,
            &at.key("max_message"),
            written,
            usual.unwrap_or(most),
            (480, most),
            |bytes| Size(bytes).to_string(),
        );
        Some(Socket {
            mode: self.mode,
            target: target?,
            encoding: encoding?,
            confirm: self.confirm,
            max_message: written.or(usual).and(usize::try_from(size).ok()),
            encrypted: self.tls.is_some(),
            delivery,
        })
    }

    fn target(&self, scope: &Scope<'_, '_>, at: &Path) -> Option<Target> {
        let network = matches!(self.mode, Mode::Tcp | Mode::Udp);
        let (wanted, other, other_is_set) = if network {
            ("address", "path", self.path.is_some())
        } else {
            ("path", "address", self.address.is_some())
        };
        if other_is_set {
            let what = format!("`{other}` does not go with this `mode`");
            scope.report.add_key(&at.key(other), what, "remove it");
        }
        let written = if network { &self.address } else { &self.path };
        let Some(written) = written else {
            let what = format!("this `mode` needs `{wanted}`");
            let example = if network {
                "logs.example.com:514"
            } else {
                "/run/logs.sock"
            };
            scope
                .report
                .add(at, what, format!("add `{wanted}: {example}`"));
            return None;
        };
        if network {
            Address::check(scope, &at.key("address"), written, None).map(Target::Address)
        } else {
            Some(Target::Path(scope.path(&at.key("path"), written)))
        }
    }
}

impl EncodingSection {
    fn check(&self, scope: &Scope<'_, '_>, at: &Path, mode: Mode) -> Option<Encoding> {
        let at = &at.key("encoding");
        self.only_what_belongs(scope, at);
        let host = self.host.clone().unwrap_or_else(|| "{tenant}".to_owned());
        let severity = self.severity.unwrap_or(Severity::Informational) as u8;
        match self.codec {
            Codec::Json => Some(Encoding::Json),
            Codec::Gelf => {
                printable(scope, &at.key("host"), &host, 255);
                let usual = if mode == Mode::Udp {
                    CHUNK_BYTES
                } else {
                    8_192
                };
                let chunk_bytes = in_range(
                    scope.report,
                    &at.key("chunk_size"),
                    self.chunk_size.map(|size| size.0),
                    usual,
                    (512, UDP_BYTES),
                    |bytes| Size(bytes).to_string(),
                );
                Some(Encoding::Gelf {
                    host,
                    level: severity,
                    chunk_bytes: usize::try_from(chunk_bytes).ok()?,
                })
            }
            Codec::Syslog => {
                let app_name = self.app_name.as_deref().unwrap_or("sluicegate").to_owned();
                printable(scope, &at.key("host"), &host, 255);
                printable(scope, &at.key("app_name"), &app_name, 48);
                if let Some(id) = &self.structured_data {
                    structured_data_id(scope, &at.key("structured_data"), id);
                }
                let facility = self.facility.unwrap_or(Facility::User) as u8;
                Some(Encoding::Syslog {
                    priority: facility * 8 + severity,
                    host,
                    app_name,
                    structured_data: self.structured_data.clone(),
                })
            }
            Codec::Wazuh => {
                let location = self.location.as_deref().unwrap_or("office365").to_owned();
                printable(scope, &at.key("location"), &location, 255);
                if location.contains(':') {
                    let what = "`location` has a colon, which ends it in Wazuh's message";
                    scope.report.add(&at.key("location"), what, "leave it out");
                }
                if let Some(name) = &self.integration {
                    scope.name(&at.key("integration"), name, 64);
                }
                Some(Encoding::Wazuh {
                    location,
                    integration: self.integration.clone(),
                })
            }
        }
    }

    fn only_what_belongs(&self, scope: &Scope<'_, '_>, at: &Path) {
        use Codec::{Gelf, Syslog, Wazuh};
        let keys: [(&str, bool, &[Codec]); 8] = [
            ("host", self.host.is_some(), &[Gelf, Syslog]),
            ("facility", self.facility.is_some(), &[Syslog]),
            ("severity", self.severity.is_some(), &[Gelf, Syslog]),
            ("app_name", self.app_name.is_some(), &[Syslog]),
            ("structured_data", self.structured_data.is_some(), &[Syslog]),
            ("chunk_size", self.chunk_size.is_some(), &[Gelf]),
            ("location", self.location.is_some(), &[Wazuh]),
            ("integration", self.integration.is_some(), &[Wazuh]),
        ];
        for (key, is_set, codecs) in keys {
            if is_set && !codecs.contains(&self.codec) {
                let what = format!("`{key}` does not go with this `codec`");
                scope.report.add_key(&at.key(key), what, "remove it");
            }
        }
    }
}

/// Text that can stand in a header of a message: visible ASCII, not too long.
fn printable(scope: &Scope<'_, '_>, at: &Path, text: &str, most: usize) {
    if text.is_empty() || text.len() > most || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let what = format!(
            "`{}` cannot stand in a message's header",
            text.escape_debug()
        );
        let help = format!("use 1 to {most} visible ASCII characters, no blanks");
        scope.report.add(at, what, help);
    }
}

fn structured_data_id(scope: &Scope<'_, '_>, at: &Path, id: &str) {
    let fine = |byte: u8| byte.is_ascii_graphic() && !b"=]\"@".contains(&byte);
    let good = id.split_once('@').is_some_and(|(name, number)| {
        let digits = number
            .split('.')
            .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
        !name.is_empty() && name.bytes().all(fine) && digits && id.len() <= 32
    });
    if !good {
        let what = format!(
            "`{}` cannot be the id of structured data",
            id.escape_debug()
        );
        let help = "write a name, `@` and a private enterprise number: `sluicegate@32473`";
        scope.report.add(at, what, help);
    }
}
