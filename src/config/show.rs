#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "makes JSON for people; nothing reads it back"
)]
//! A model with all that holds for it, as JSON: what `config show` prints.
//!
//! The names are the files' own. Keys are shown by their last letters, headers from the environment not at all.

use serde_json::{Map, Value, json};

use crate::config::facts;
use crate::config::load::Loaded;
use crate::route::table::{Action, Address, ErrorRule, Resolved, Route, RuleScope, Slot};
use crate::wire::caps::Capabilities;
use crate::wire::prompt::Effort;

/// Pretty JSON of a model as it is in force.
#[must_use]
pub fn model(resolved: &Resolved, loaded: &Loaded) -> String {
    let model = &resolved.model;
    let file = loaded.files.iter().find(|(name, _)| *name == model.name).map(|(_, file)| &**file);
    let routes: Vec<Value> = model.routes.iter().map(|r| route(r, resolved)).collect();
    let all = json!({
        "logical_name": &*model.name,
        "display_name": model.display_name.as_deref(),
        "aliases": model.aliases.iter().map(|a| &**a).collect::<Vec<_>>(),
        "file": file,
        "on_lossy": model.on_lossy.as_str(),
        "rewrite_model": model.rewrite_model,
        "max_attempts": model.terms.attempts_max,
        "deadline_seconds": model.terms.deadline.as_secs_f64(),
        "keep_alive_seconds": model.terms.keep_alive.unwrap_or_default().as_secs_f64(),
        "early_commit_ms": model.terms.early_commit.unwrap_or_default().as_secs_f64() * 1000.0,
        "model_routings": routes,
    });
    serde_json::to_string_pretty(&all).unwrap_or_default()
}

fn route(route: &Route, resolved: &Resolved) -> Value {
    let model = resolved.upstream_model(route);
    let proxy = match &route.address {
        Address::Builtin => None,
        Address::Http { origin, .. } => origin.proxy.as_ref().map(|p| format!("http://{}:{}", p.host, p.port)),
    };
    let headers: Map<String, Value> = route
        .headers
        .iter()
        .map(|(name, value)| {
            let shown = if value.is_sensitive() { "…" } else { value.to_str().unwrap_or("…") };
            (name.to_string(), Value::from(shown))
        })
        .collect();
    json!({
        "provider": &*route.provider.name,
        "model": model,
        "via": &*route.via,
        "wire_protocol": route.format.as_str(),
        "url": url(&route.address, &model),
        "twin": route.twin.as_ref().map(|twin| json!({
            "wire_protocol": twin.format.as_str(),
            "url": url(&twin.address, &model),
        })),
        "count_tokens_url": route.counts.as_ref().map(|counts| url(counts, &model)),
        "proxy": proxy,
        "keys": route.keys.iter().map(key).collect::<Vec<_>>(),
        "headers": headers,
        "connect_timeout_seconds": route.timeouts.connect.as_secs_f64(),
        "timeout_seconds": route.timeouts.first_byte.as_secs_f64(),
        "idle_timeout_seconds": route.timeouts.idle.as_secs_f64(),
        "total_timeout_seconds": route.timeouts.total.as_secs_f64(),
        "cooldown_seconds": route.policy.model_cooldown.as_secs_f64(),
        "key_cooldown_seconds": route.policy.key_cooldown.as_secs_f64(),
        "error_handling": error_handling(route),
        "error_rules": error_rules(route),
        "context_tokens": route.context_tokens,
        "output_gate": {
            "max_events": route.gate.events,
            "max_bytes": route.gate.bytes,
            "timeout_seconds": route.gate.time.as_secs_f64(),
        },
        "capabilities": capabilities(&route.capabilities),
        "quirks": facts::show_quirks(&route.quirks),
        "defaults": defaults(route),
    })
}

/// The address of a model, as people write it.
#[must_use]
pub fn url(address: &Address, model: &str) -> String {
    match address {
        Address::Builtin => "builtin:demo".to_owned(),
        Address::Http { origin, path, .. } => {
            let scheme = if origin.tls { "https" } else { "http" };
            format!("{scheme}://{}{}", origin.authority(), path.replace("{model}", model))
        }
    }
}

fn key(slot: &Slot) -> Value {
    match &slot.key.secret {
        Some(secret) => json!({"variable": &*slot.key.name, "key": secret.redacted()}),
        None => json!("none needed"),
    }
}

fn error_handling(route: &Route) -> Map<String, Value> {
    let rule = |(status, action, rest): &(u16, Action, Option<std::time::Duration>)| {
        let name = Action::ALL.iter().find(|(_, a)| a == action).map_or("", |(name, _)| name);
        let cooldown = rest.map(|r| r.as_secs_f64());
        (status.to_string(), json!({"action": name, "cooldown_seconds": cooldown}))
    };
    route.policy.actions.iter().map(rule).collect()
}

fn error_rules(route: &Route) -> Vec<Value> {
    let rule = |rule: &ErrorRule| {
        json!({
            "status": rule.status,
            "body_contains": rule.body_contains.as_deref(),
            "scope": RuleScope::ALL.iter().find(|(_, s)| *s == rule.scope).map(|(name, _)| *name),
            "cooldown_seconds": rule.cooldown.map(|r| r.as_secs_f64()),
        })
    };
    route.policy.rules.iter().map(rule).collect()
}

fn defaults(route: &Route) -> Map<String, Value> {
    let field =
        |(name, text): &(Box<str>, Box<str>)| (name.to_string(), serde_json::from_str(text).unwrap_or_default());
    route.defaults.iter().map(field).collect()
}

fn capabilities(all: &Capabilities) -> Value {
    json!({
        "max_output_tokens": all.max_output_tokens,
        "default_max_tokens": all.default_max_tokens,
        "sampling": all.sampling,
        "temperature_and_top_p": all.temperature_and_top_p,
        "thinking": {
            "adaptive": all.thinking.adaptive,
            "enabled": all.thinking.enabled,
            "disabled": all.thinking.disabled,
        },
        "effort": all.effort.iter().copied().map(Effort::as_str).collect::<Vec<_>>(),
        "reasoning_default_on": all.reasoning_default_on,
        "forced_tool_choice": all.forced_tool_choice,
        "prefill": all.prefill,
        "inline_system": all.inline_system,
        "structured_outputs": all.structured_outputs,
        "images": all.images,
        "pdf": all.pdf,
        "stop": all.stop,
        "tools_need_responses_api": all.tools_need_responses_api,
    })
}
