//! One fault on one lane: an upstream of its own, and models of its own on a gateway that many share.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::faults::table::{BRIEF, Fault, How, Kind, good};
use crate::support::gateway::{Gateway, Setup};
use crate::support::http::{Reply, Request};
use crate::support::samples::Side;
use crate::support::upstream::{Seen, Upstream};

/// How a request travels: the format spoken upstream, the client's, and whether it is to be a stream.
#[derive(Clone, Copy, Debug)]
pub struct Lane {
    pub side: Side,
    pub client: Side,
    pub stream: bool,
}

impl Lane {
    pub fn request(&self) -> &'static str {
        if self.stream { self.client.stream_request } else { self.client.request }
    }

    pub fn can_meet(&self, fault: &Fault) -> bool {
        match fault.kind {
            Kind::Any => true,
            Kind::Whole => !self.stream,
            Kind::Stream => self.stream,
        }
    }
}

/// A fault's place on a gateway. Its models, all with a number of its own:
///
/// ```text
/// m ──▶ p, keys 1 and 2, as `up` ──▶ q     key 1 meets the fault, once
/// o ──▶ p, keys 1 and 2, as `else` ──▶ q   shows what rests beside `up`
/// x ──▶ a ──▶ b                            both meet it, always
/// ```
pub struct Scene {
    pub fault: Fault,
    pub lane: Lane,
    number: usize,
    /// Where `p` and `q` are.
    pub upstream: Upstream,
    /// Where `a` and `b` are: they find no connection that served before, and so none that is only stale.
    always: Upstream,
}

impl Scene {
    pub fn new(number: usize, fault: Fault, lane: Lane) -> Self {
        let struck = AtomicBool::new(false);
        let upstream = Upstream::answering(move |seen, _| {
            let can_meet = key(seen) == "1" && seen.text().contains("\"up\"");
            match fault.how {
                How::Answers(answer) | How::Slowly(answer) if can_meet && !struck.swap(true, Ordering::SeqCst) => {
                    answer(&lane.side, seen)
                }
                How::Refuses | How::Answers(_) | How::Slowly(_) => good(&lane.side, seen),
            }
        });
        let always = match fault.how {
            How::Refuses => Upstream::refusing(),
            How::Answers(answer) | How::Slowly(answer) => Upstream::answering(move |seen, _| answer(&lane.side, seen)),
        };
        Self { fault, lane, number, upstream, always }
    }

    /// Adds its providers and models.
    pub fn set(&self, setup: Setup) -> Setup {
        let n = self.number;
        let seconds = if matches!(self.fault.how, How::Slowly(_)) { BRIEF.as_secs_f64() } else { 20.0 };
        let timeout = json!({"request_config": {"timeout_seconds": seconds}});
        let first = if matches!(self.fault.how, How::Refuses) { &self.always } else { &self.upstream };
        let format = self.lane.side.format;
        let [p, q, a, b] = ["p", "q", "a", "b"].map(|name| format!("{name}{n}"));
        setup
            .provider_with(&p, format, first, &timeout)
            .provider(&q, format, &self.upstream)
            .provider_with(&a, format, &self.always, &timeout)
            .provider_with(&b, format, &self.always, &timeout)
            .env(&format!("P{n}_API_KEY_1"), "key-1")
            .env(&format!("P{n}_API_KEY_2"), "key-2")
            .env(&format!("Q{n}_API_KEY"), "key-q")
            .env(&format!("A{n}_API_KEY"), "key-a")
            .env(&format!("B{n}_API_KEY"), "key-b")
            .model(&format!("m{n}"), &[(&p, "up"), (&q, "up")])
            .model(&format!("o{n}"), &[(&p, "else"), (&q, "else")])
            .model(&format!("x{n}"), &[(&a, "up"), (&b, "up")])
    }

    /// A request for one of its models.
    pub fn request(&self, model: &str) -> Request {
        let model = format!("\"{model}{}\"", self.number);
        Request::post(self.lane.client.path, self.lane.request().replace("\"m\"", &model)).with_key()
    }

    /// Asks one of its models, and says which keys its upstream saw meanwhile.
    #[track_caller]
    pub fn tried(&self, gateway: &Gateway, model: &str) -> (Reply, String) {
        let upstream = if model == "x" { &self.always } else { &self.upstream };
        let before = upstream.count();
        let reply = gateway.send(&self.request(model));
        let seen = upstream.seen().split_off(before);
        let keys: Vec<&str> = seen.iter().map(key).collect();
        (reply, keys.join(" "))
    }

    /// The name of its second faulty provider, which fails last.
    pub fn last_provider(&self) -> String {
        format!("\"b{}\"", self.number)
    }

    /// The log's lines on one of its models.
    pub fn lines(&self, gateway: &Gateway, model: &str) -> Vec<String> {
        let name = format!(" model={model}{} ", self.number);
        gateway.stderr().lines().filter(|line| line.contains(&name)).map(str::to_owned).collect()
    }
}

/// The last letter of the key a request came with.
pub fn key(seen: &Seen) -> &str {
    let value = seen.headers.one("authorization").or_else(|| seen.headers.one("x-api-key"));
    value.unwrap_or_default().rsplit('-').next().unwrap_or_default()
}
