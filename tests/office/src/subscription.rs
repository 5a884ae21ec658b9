//! Subscriptions: started, stopped, listed, and what keeps one from being read.
//!
//! A webhook is kept and shown, and taken away by a start that does not name it; nothing is ever
//! sent to one, since the office opens no connection.

use serde_json::{Value, json};

use crate::faults::Faults;
use crate::feed::{ANONYMOUS, refuse};
use crate::kind::ContentType;
use crate::office::Office;
use crate::tenant::{State, Subscription};
use crate::time;
use crate::wire::{Reply, Request};

const NO_SUBSCRIPTION: &str = "No subscription found for the specified content type.";

impl Office {
    pub(crate) fn start(
        &mut self,
        now: i64,
        request: &Request,
        index: usize,
        kind: ContentType,
    ) -> Reply {
        self.stats.start_requests += 1;
        let tenant = &mut self.tenants[index];
        if now < tenant.auditing_from_ms {
            return no_such_tenant(request, &tenant.directory_id, &tenant.client_id, kind);
        }
        let webhook = match read_webhook(now, request) {
            Ok(webhook) => webhook,
            Err(refusal) => return refusal,
        };
        let feed = tenant.feed_mut(kind).expect("content_type found the feed");
        let subscription = &mut feed.subscription;
        let before = subscription.start_called.replace(now);
        self.stats.hasty_starts += u64::from(before.is_some_and(|b| now - b < 15 * 60_000));
        if before.is_some_and(|before| now - before < self.faults.start_gap_ms) {
            let publisher = request
                .parameter("PublisherIdentifier")
                .unwrap_or(ANONYMOUS.into());
            let text =
                format!("Too many requests. Method=StartSubscription, PublisherId={publisher}");
            let body = format!("{{'error':{{'code':'AF429','message':'{text}'}}}}");
            return Reply::json(403, body);
        }
        if subscription.state == State::Enabled && subscription.webhook == webhook {
            let text = "The subscription is already enabled. No property change.";
            return refuse(400, "AF20024", text);
        }
        let removed = subscription.webhook.is_some() && webhook.is_none();
        self.stats.webhooks_removed += u64::from(removed);
        subscription.webhook = webhook;
        enable(subscription, now, &self.faults);
        Reply::json(200, describe(kind, subscription).to_string())
    }

    pub(crate) fn stop(&mut self, now: i64, index: usize, kind: ContentType) -> Reply {
        self.stats.stop_requests += 1;
        let feed = self.tenants[index]
            .feed_mut(kind)
            .expect("content_type found the feed");
        if feed.subscription.state == State::Absent {
            return refuse(400, "AF20022", NO_SUBSCRIPTION);
        }
        feed.subscription.state = State::Absent;
        feed.subscription.stopped.get_or_insert(now);
        Reply::json(200, "")
    }

    pub(crate) fn subscriptions(&self, now: i64, index: usize) -> Reply {
        let feeds = self.tenants[index].feeds.iter();
        let known = feeds.filter(|feed| match feed.subscription.state {
            State::Absent => false,
            State::Disabled => true,
            State::Enabled => self.is_settled(now, &feed.subscription),
        });
        let mut list: Vec<_> = known
            .map(|feed| describe(feed.maker.kind, &feed.subscription))
            .collect();
        if self.faults.status_missing
            && let Some(first) = list.first_mut().and_then(|first| first.as_object_mut())
        {
            first.remove("status");
        }
        Reply::json(200, Value::from(list).to_string())
    }

    /// Why the subscription cannot be read now, if it cannot.
    pub(crate) fn check_subscription(
        &self,
        now: i64,
        index: usize,
        kind: ContentType,
    ) -> Result<(), Reply> {
        let feed = self.tenants[index]
            .feed(kind)
            .expect("callers have found the feed");
        let subscription = &feed.subscription;
        match subscription.state {
            State::Enabled if self.is_settled(now, subscription) => Ok(()),
            State::Disabled => Err(refuse(400, "AF20023", "The subscription was disabled.")),
            State::Enabled | State::Absent => Err(refuse(400, "AF20022", NO_SUBSCRIPTION)),
        }
    }

    /// Whether a subscription that was started can be seen by now.
    fn is_settled(&self, now: i64, subscription: &Subscription) -> bool {
        now.saturating_sub(subscription.started) >= self.faults.start_lag_ms
    }
}

fn enable(subscription: &mut Subscription, now: i64, faults: &Faults) {
    if let Some(stopped) = subscription.stopped.take() {
        subscription.hidden.push((stopped, now));
    } else if subscription.state == State::Absent {
        subscription.listed_from = now + faults.first_blob_delay_ms;
        if faults.no_history {
            subscription.hidden.push((i64::MIN, now));
        }
    }
    if subscription.state != State::Enabled {
        subscription.started = now;
    }
    subscription.state = State::Enabled;
}

fn describe(kind: ContentType, subscription: &Subscription) -> Value {
    let enabled = subscription.state == State::Enabled;
    let status = if enabled { "enabled" } else { "disabled" };
    let webhook = subscription.webhook.as_ref().map(
        |address| json!({"address": address, "authId": "", "expiration": "", "status": "enabled"}),
    );
    json!({"contentType": kind.name(), "status": status, "webhook": webhook})
}

/// The address of the webhook in the body of a start, if there is one.
fn read_webhook(now: i64, request: &Request) -> Result<Option<String>, Reply> {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let webhook = &body["webhook"];
    if webhook.is_null() {
        return Ok(None);
    }
    let address = webhook["address"].as_str().unwrap_or_default();
    if !address.starts_with("https://") {
        let text = format!("The webhook endpoint ({address}) could not be validated.");
        return Err(refuse(400, "AF20021", text));
    }
    let expiration = webhook["expiration"].as_str().and_then(time::parse);
    if expiration.is_some_and(|expiration| expiration <= now) {
        return Err(refuse(
            400,
            "AF20003",
            "Expiration provided is set to past date and time.",
        ));
    }
    Ok(Some(address.to_owned()))
}

/// The answer to a start before auditing has taken effect: the code is cut out of an exception's
/// text.
fn no_such_tenant(request: &Request, tenant: &str, client: &str, kind: ContentType) -> Reply {
    let publisher = request
        .parameter("PublisherIdentifier")
        .unwrap_or(ANONYMOUS.into());
    let code = format!(
        "StartSubscription [CorrId=0d6f2a31-5b1e-4f0e-9c55-1f2e3d4c5b6a][TenantId={tenant},\
        ContentType={},\
         ApplicationId={client},PublisherId={publisher}][AppId",
        kind.name()
    );
    let message = format!(
        "{client}] failed. Exception: Microsoft.Office.Compliance.Audit.DataServiceException: \
        Tenant \
         {tenant} does not exist.\r\n   at Microsoft.Office.Compliance.Audit.Start()"
    );
    refuse(400, &code, message)
}
