#![expect(clippy::disallowed_types, reason = "defaults hold any JSON; configuration is small and read once")]
//! The files as they are written: one struct per object, one field per key of `schemas/*.schema.json`.
//!
//! Every field may be missing. What must be there is the schema's to say, so that a file with faults can still be
//! searched for others.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use serde_json::{Map, Value};

/// `config/models/*.json`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ModelFile {
    pub(crate) logical_name: String,
    pub(crate) display_name: Option<String>,
    pub(crate) aliases: Option<Vec<String>>,
    pub(crate) timeout_seconds: Option<Num>,
    pub(crate) total_timeout_seconds: Option<Num>,
    pub(crate) default_cooldown_seconds: Option<Num>,
    pub(crate) max_attempts: Option<Num>,
    pub(crate) deadline_seconds: Option<Num>,
    pub(crate) keep_alive_seconds: Option<Num>,
    pub(crate) early_commit_ms: Option<Num>,
    pub(crate) context_tokens: Option<Num>,
    pub(crate) output_gate: Option<OutputGate>,
    pub(crate) model_routings: Option<Vec<RouteEntry>>,
    pub(crate) fallback_model_routings: Option<Vec<String>>,
    pub(crate) capabilities: Option<CapabilityFlags>,
    pub(crate) defaults: Option<Map<String, Value>>,
    pub(crate) on_lossy: Option<String>,
    pub(crate) rewrite_model: Option<bool>,
}

/// One of `model_routings`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RouteEntry {
    pub(crate) provider: String,
    pub(crate) model: String,
    pub(crate) wire_protocol: Option<String>,
    pub(crate) base_url: Option<String>,
    pub(crate) api_key_env: Option<OneOrMany>,
    pub(crate) timeout_seconds: Option<Num>,
    pub(crate) total_timeout_seconds: Option<Num>,
    pub(crate) cooldown_seconds: Option<Num>,
    pub(crate) context_tokens: Option<Num>,
    pub(crate) output_gate: Option<OutputGate>,
    pub(crate) capabilities: Option<CapabilityFlags>,
    pub(crate) quirks: Option<QuirkFlags>,
    pub(crate) defaults: Option<Map<String, Value>>,
}

/// How much of a stream is held back; see [`crate::route::table::Gate`].
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct OutputGate {
    pub(crate) max_events: Option<Num>,
    pub(crate) max_bytes: Option<Num>,
    pub(crate) timeout_seconds: Option<Num>,
}

/// One of `passthrough`.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Passage {
    Path(String),
    Stated {
        path: String,
        #[serde(default)]
        upstream: Option<String>,
        #[serde(default)]
        methods: Option<Vec<String>>,
    },
}

/// `config/clients/*.json`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ClientFile {
    pub(crate) name: Option<String>,
    pub(crate) key_sha256: Option<OneOrMany>,
    pub(crate) enabled: Option<bool>,
    pub(crate) models: Option<Vec<String>>,
    #[serde(flatten)]
    pub(crate) limits: LimitsEntry,
    pub(crate) per_model: Option<BTreeMap<String, LimitsEntry>>,
}

/// What a client may use, in all or of one model.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct LimitsEntry {
    pub(crate) requests_per_minute: Option<u64>,
    pub(crate) tokens_per_minute: Option<u64>,
    pub(crate) requests_at_once: Option<u64>,
    pub(crate) tokens_per_day: Option<u64>,
    pub(crate) tokens_per_month: Option<u64>,
}

/// `config/prices.json`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PricesFile {
    pub(crate) models: Option<BTreeMap<String, PriceEntry>>,
}

/// US dollars for a million tokens of each kind.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PriceEntry {
    pub(crate) input: Option<Num>,
    pub(crate) cache_read: Option<Num>,
    pub(crate) cache_write: Option<Num>,
    pub(crate) cache_write_1h: Option<Num>,
    pub(crate) output: Option<Num>,
    pub(crate) as_of: Option<String>,
    pub(crate) source: Option<String>,
}

/// `config/server.json`: a number for each of [`crate::config::bounds::BOUNDS`].
pub(crate) type ServerFile = Map<String, Value>;

/// `config/providers/*.json`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ProviderFile {
    pub(crate) name: String,
    pub(crate) display_name: Option<String>,
    pub(crate) enabled: Option<bool>,
    pub(crate) api: Option<String>,
    pub(crate) api_keys: Option<ApiKeys>,
    pub(crate) api_key_env_patterns: Option<OneOrMany>,
    pub(crate) endpoints: Option<Endpoints>,
    pub(crate) authentication: Option<Authentication>,
    pub(crate) proxy_url: Option<String>,
    pub(crate) passthrough: Option<Vec<Passage>>,
    pub(crate) request_config: Option<RequestConfig>,
    pub(crate) rate_limiting: Option<RateLimiting>,
    pub(crate) models: Option<BTreeMap<String, ProviderModel>>,
    pub(crate) error_handling: Option<BTreeMap<String, ErrorAction>>,
    pub(crate) error_rules: Option<Vec<ErrorRule>>,
    pub(crate) proxy_support: Option<ProxySupport>,
    pub(crate) model_mapping: Option<BTreeMap<String, String>>,
    pub(crate) quirks: Option<QuirkFlags>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ApiKeys {
    pub(crate) env_var_patterns: Option<OneOrMany>,
    pub(crate) env_var_pattern: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Endpoints {
    pub(crate) base_url: String,
    pub(crate) completions: Option<String>,
    pub(crate) streaming: Option<String>,
    pub(crate) chat: Option<String>,
    pub(crate) messages: Option<String>,
    pub(crate) responses: Option<String>,
    pub(crate) count_tokens: Option<String>,
    pub(crate) compatible_format: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Authentication {
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
    pub(crate) header_name: Option<String>,
    pub(crate) header_format: Option<String>,
    pub(crate) additional_headers: Option<BTreeMap<String, String>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RequestConfig {
    pub(crate) timeout_seconds: Option<Num>,
    pub(crate) total_timeout_seconds: Option<Num>,
    pub(crate) defaults: Option<Map<String, Value>>,
    pub(crate) default_parameters: Option<Map<String, Value>>,
    pub(crate) required_parameters: Option<Vec<String>>,
    pub(crate) max_retries: Option<Num>,
    pub(crate) retry_on_status: Option<Vec<Num>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RateLimiting {
    pub(crate) enabled: Option<bool>,
    pub(crate) requests_per_minute: Option<Num>,
    pub(crate) tokens_per_minute: Option<Num>,
    pub(crate) cooldown_seconds: Option<Num>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ProviderModel {
    pub(crate) cooldown_seconds: Option<Num>,
    pub(crate) context_tokens: Option<Num>,
    pub(crate) capabilities: Option<CapabilityFlags>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ErrorAction {
    pub(crate) action: String,
    pub(crate) cooldown_seconds: Option<Num>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ErrorRule {
    pub(crate) status: Option<Num>,
    pub(crate) body_contains: Option<String>,
    pub(crate) scope: String,
    pub(crate) cooldown_seconds: Option<Num>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ProxySupport {
    pub(crate) enabled: Option<bool>,
    pub(crate) base_url_override: Option<String>,
}

/// What is known of a model; see [`crate::wire::caps::Capabilities`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct CapabilityFlags {
    pub(crate) max_output_tokens: Option<Num>,
    pub(crate) default_max_tokens: Option<Num>,
    pub(crate) sampling: Option<bool>,
    pub(crate) temperature_and_top_p: Option<bool>,
    pub(crate) thinking: Option<ThinkingFlags>,
    pub(crate) effort: Option<Vec<String>>,
    pub(crate) reasoning_default_on: Option<bool>,
    pub(crate) forced_tool_choice: Option<bool>,
    pub(crate) prefill: Option<bool>,
    pub(crate) inline_system: Option<bool>,
    pub(crate) structured_outputs: Option<bool>,
    pub(crate) images: Option<bool>,
    pub(crate) pdf: Option<bool>,
    pub(crate) stop: Option<bool>,
    pub(crate) tools_need_responses_api: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ThinkingFlags {
    pub(crate) adaptive: Option<bool>,
    pub(crate) enabled: Option<bool>,
    pub(crate) disabled: Option<bool>,
}

/// How an endpoint differs from its format's own vendor; see [`crate::wire::caps::Quirks`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct QuirkFlags {
    pub(crate) max_tokens_field: Option<String>,
    pub(crate) system_role: Option<String>,
    pub(crate) content_as_string: Option<bool>,
    pub(crate) stream_options: Option<bool>,
    pub(crate) strict_tools: Option<bool>,
    pub(crate) tool_choice_required: Option<bool>,
    pub(crate) tool_result_images: Option<bool>,
    pub(crate) reasoning_field: Option<String>,
    pub(crate) reasoning_replay: Option<String>,
    pub(crate) tool_id: Option<String>,
    pub(crate) user_max_len: Option<Num>,
    pub(crate) user_emails: Option<bool>,
    pub(crate) prompt_cache_breakpoint: Option<bool>,
    pub(crate) top_k: Option<bool>,
    pub(crate) empty_content: Option<bool>,
    pub(crate) drop_params: Option<Vec<String>>,
    pub(crate) think_tags: Option<bool>,
    pub(crate) thought_signatures: Option<bool>,
}

/// A number, also where it is written as a string.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Num(pub(crate) f64);

impl Num {
    /// As a span of time. Negative ones are none at all; a year is long enough for anything.
    pub(crate) fn seconds(self) -> Duration {
        Duration::try_from_secs_f64(self.0.min(SECONDS_MAX)).unwrap_or_default()
    }

    /// As a whole number of at least zero.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "floats saturate when cast")]
    pub(crate) fn count(self) -> u64 {
        self.0 as u64
    }

    /// Reads a decimal number.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        text.trim().parse::<f64>().ok().filter(|n| n.is_finite()).map(Self)
    }
}

/// One year: longer spans are surely "forever", and further arithmetic stays far from overflowing.
const SECONDS_MAX: f64 = 366.0 * 86_400.0;

impl<'de> Deserialize<'de> for Num {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Num;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }

            #[expect(clippy::cast_precision_loss, reason = "seconds and tokens are far below 2^53")]
            fn visit_u64<E: de::Error>(self, n: u64) -> Result<Num, E> {
                Ok(Num(n as f64))
            }

            #[expect(clippy::cast_precision_loss, reason = "seconds and tokens are far below 2^53")]
            fn visit_i64<E: de::Error>(self, n: i64) -> Result<Num, E> {
                Ok(Num(n as f64))
            }

            fn visit_f64<E: de::Error>(self, n: f64) -> Result<Num, E> {
                Ok(Num(n))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Num, E> {
                Num::parse(text).ok_or_else(|| E::custom("not a number"))
            }
        }
        from.deserialize_any(Reader)
    }
}

/// A list of words, or one word.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct OneOrMany(pub(crate) Vec<String>);

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = OneOrMany;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<OneOrMany, E> {
                Ok(OneOrMany(vec![word.to_owned()]))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<OneOrMany, A::Error> {
                let mut words = Vec::new();
                while let Some(word) = seq.next_element()? {
                    words.push(word);
                }
                Ok(OneOrMany(words))
            }
        }
        from.deserialize_any(Reader)
    }
}
