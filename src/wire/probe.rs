//! What a route's model and provider take away from a request, told by trying: small requests that each set one thing
//! are converted for it by the very code that converts the clients', and what that loses or refuses is the answer.
//!
//! The tables of fields ([`crate::wire::loss::Fields`]) tell what the other format has no place for, whatever the route.
//! This tells the rest: what depends on [`crate::wire::caps`]. So no list of what each flag does has to be kept.

use crate::wire::loss::Losses;
use crate::wire::{Format, Target, translate};

/// A request that sets one thing.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// What it sets, written as in the tables of fields.
    pub field: &'static str,
    /// The members of the request that do. What every request needs is put beside them.
    pub sets: &'static str,
}

impl Probe {
    #[must_use]
    pub const fn new(field: &'static str, sets: &'static str) -> Self {
        Self { field, sets }
    }

    fn sets_any(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.sets.contains(name))
    }

    /// The whole request. `needed`: what its format cannot do without.
    fn body(&self, needed: &[Needed]) -> String {
        let mut body = "{\"model\":\"m\"".to_owned();
        for (names, needed) in needed {
            if !self.sets_any(names) {
                body.push(',');
                body.push_str(needed);
            }
        }
        if !self.sets.is_empty() {
            body.push(',');
            body.push_str(self.sets);
        }
        body.push('}');
        body
    }
}

/// A member without which a request is none: (the keys that make it needless, the member).
pub type Needed = (&'static [&'static str], &'static str);

/// What a limit of the answer is called.
pub(super) const LIMITS: &[&str] = &["\"max_tokens\"", "\"max_completion_tokens\"", "\"max_output_tokens\""];

/// What the formats need that speak of messages.
pub(super) const MESSAGES: &[Needed] =
    &[(LIMITS, "\"max_tokens\":4096"), (&["\"messages\""], "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]")];

/// Something a route does not take as it is sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Taken {
    pub field: &'static str,
    /// Lower case, no full stop.
    pub why: String,
    /// The whole request is refused for it.
    pub refused: bool,
}

/// All that a route takes away beyond what the formats make inevitable. Nothing where both formats are one: then nothing
/// is converted.
#[must_use]
pub fn taken((from, to): (Format, Format), target: &Target<'_>) -> Vec<Taken> {
    if from == to {
        return Vec::new();
    }
    let always = lost((from, to), &Probe::new("", ""), target);
    let mut all: Vec<Taken> = Vec::new();
    for probe in from.codec().probes {
        for taken in lost((from, to), probe, target) {
            let is_same = |other: &Taken| (&other.why, other.refused) == (&taken.why, taken.refused);
            // The limit that every request has may be too high itself, which is told of the field.
            let is_always = always.iter().any(is_same) && !probe.sets_any(LIMITS);
            if !is_always && !all.contains(&taken) {
                all.push(taken);
            }
        }
    }
    all
}

fn lost(formats: (Format, Format), probe: &Probe, target: &Target<'_>) -> Vec<Taken> {
    let mut losses = Losses::default();
    match translate::request(formats, &probe.body(formats.0.codec().needed), Some(false), target, &mut losses) {
        Ok(_) => {
            losses.iter().map(|loss| Taken { field: probe.field, why: loss.why.to_owned(), refused: false }).collect()
        }
        Err(refusal) => vec![Taken { field: probe.field, why: refusal.message, refused: true }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::caps::{Capabilities, Quirks, ThinkingModes};
    use crate::wire::loss::Fate;

    /// A model and a provider that take all there is to take.
    fn able() -> (Capabilities, Quirks) {
        let thinking = ThinkingModes { adaptive: true, enabled: true, disabled: true };
        let effort = crate::wire::prompt::Effort::ALL.to_vec();
        let capabilities = Capabilities { thinking, effort, inline_system: true, ..Capabilities::default() };
        let quirks = Quirks { top_k: true, tool_result_images: true, user_emails: true, ..Quirks::default() };
        (capabilities, quirks)
    }

    fn told(formats: (Format, Format), capabilities: &Capabilities, quirks: &Quirks) -> Vec<String> {
        let target = Target { model: "up", capabilities, quirks };
        taken(formats, &target).iter().map(|t| format!("{}: {}", t.field, t.why)).collect()
    }

    const THERE: (Format, Format) = (Format::OpenaiChat, Format::Anthropic);
    const BACK: (Format, Format) = (Format::Anthropic, Format::OpenaiChat);

    #[test]
    fn what_is_refused_by_nobody_is_not_told() {
        let (capabilities, quirks) = able();
        for formats in [THERE, BACK] {
            let told = told(formats, &capabilities, &quirks);
            let expect: &[&str] = if formats == THERE { &INEVITABLE_THERE } else { &INEVITABLE_BACK };
            assert_eq!(told, expect, "{formats:?}");
        }
    }

    /// What no flag changes: values outside what the other format takes.
    const INEVITABLE_THERE: [&str; 1] = ["temperature=1.5: cut to 1, the most there is"];
    const INEVITABLE_BACK: [&str; 2] = [
        "stop_sequences, five of them: only the first four are sent: the format takes no more",
        "thinking(enabled): sent as the nearest level of effort this model takes",
    ];

    #[test]
    fn every_flag_that_takes_something_is_seen() {
        let (able, quirks) = able();
        for (formats, capabilities, expect) in [
            (THERE, Capabilities { sampling: false, ..able.clone() }, "temperature: "),
            (THERE, Capabilities { temperature_and_top_p: false, ..able.clone() }, "top_p: "),
            (THERE, Capabilities { images: false, ..able.clone() }, "messages[user].content[image_url]: "),
            (THERE, Capabilities { pdf: false, ..able.clone() }, "messages[user].content[file]: "),
            (THERE, Capabilities { stop: false, ..able.clone() }, "stop: "),
            (THERE, Capabilities { forced_tool_choice: false, ..able.clone() }, "tool_choice: "),
            (THERE, Capabilities { structured_outputs: false, ..able.clone() }, "response_format(json_schema): "),
            (THERE, Capabilities { prefill: false, ..able.clone() }, "messages[assistant] at the end: "),
            (THERE, Capabilities { max_output_tokens: Some(5), ..able.clone() }, "max_tokens: "),
            (BACK, Capabilities { sampling: false, ..able.clone() }, "temperature: "),
            (BACK, Capabilities { temperature_and_top_p: false, ..able.clone() }, "top_p: "),
            (BACK, Capabilities { images: false, ..able.clone() }, "messages[].content[image]: "),
            (BACK, Capabilities { pdf: false, ..able.clone() }, "messages[].content[document]: "),
            (BACK, Capabilities { stop: false, ..able.clone() }, "stop_sequences: "),
            (BACK, Capabilities { forced_tool_choice: false, ..able.clone() }, "tool_choice: "),
            (BACK, Capabilities { structured_outputs: false, ..able.clone() }, "output_config.format: "),
            (BACK, Capabilities { prefill: false, ..able.clone() }, "messages[assistant] at the end: "),
            (
                BACK,
                Capabilities { tools_need_responses_api: true, reasoning_default_on: true, ..able.clone() },
                "tools: ",
            ),
        ] {
            let told = told(formats, &capabilities, &quirks);
            assert!(told.iter().any(|line| line.starts_with(expect)), "{expect} {told:?}");
        }
        let never = Quirks { drop_params: vec!["metadata".into(), "user".into(), "temperature".into()], ..quirks };
        for (formats, fields) in [(THERE, ["user", "temperature"]), (BACK, ["metadata.user_id", "temperature"])] {
            let told = told(formats, &able, &never);
            for field in fields {
                assert!(told.iter().any(|line| line.starts_with(&format!("{field}: "))), "{field} {told:?}");
            }
        }
    }

    #[test]
    fn every_field_that_is_carried_is_tried() {
        for format in Format::ALL {
            let codec = format.codec();
            let carried = codec.fields.request.iter().filter(|row| row.fate == Fate::Carry);
            for row in carried.filter(|row| !["model", "stream", "stream_options"].contains(&row.name)) {
                let is_tried = |probe: &Probe| {
                    probe
                        .field
                        .strip_prefix(row.name)
                        .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphabetic() || c == '_'))
                };
                assert!(codec.probes.iter().any(is_tried), "{format} has no probe of {}", row.name);
            }
            for probe in codec.probes {
                let body = probe.body(codec.needed);
                let read = (codec.decode_request)(&body, &mut Losses::default());
                assert!(read.is_ok(), "{format} cannot read the probe of {}: {read:?}", probe.field);
            }
        }
    }
}
