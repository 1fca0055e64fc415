//! What conversion for a route takes away: by the tables of fields, and by trying.

use crate::wire::loss::{Fate, Field};
use crate::wire::probe::{Taken, taken};
use crate::wire::{Format, Target};

#[derive(Debug)]
pub(super) struct Conversion {
    pub(super) from: Format,
    pub(super) lane: Lane,
}

#[derive(Debug)]
pub(super) enum Lane {
    /// One format: the bytes go through, without these fields.
    Verbatim { never: Vec<String> },
    Translated {
        counts: Counts,
        /// Fields at the top of a request that are dropped, by the reason.
        dropped: Vec<Group>,
        /// All that is refused.
        refused: Vec<Group>,
        /// What only this route does not take.
        here: Vec<Group>,
        here_refused: Vec<Group>,
        /// Every row of the tables.
        rows: Vec<Field>,
    },
}

/// How many rows of the tables have which fate.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Counts {
    pub(super) carried: usize,
    pub(super) dropped: usize,
    pub(super) ignored: usize,
    pub(super) refused: usize,
}

/// Fields with one reason.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Group {
    pub(super) why: String,
    pub(super) fields: Vec<String>,
}

impl Conversion {
    pub(super) fn new((from, to): (Format, Format), target: &Target<'_>) -> Self {
        let lane = if from == to { verbatim(target) } else { translated((from, to), target) };
        Self { from, lane }
    }
}

/// The model and the stream are the proxy's own to set, whatever a file says.
fn verbatim(target: &Target<'_>) -> Lane {
    let never = target.quirks.drop_params.iter().filter(|name| !["model", "stream"].contains(&name.as_str()));
    Lane::Verbatim { never: never.cloned().collect() }
}

fn translated(formats: (Format, Format), target: &Target<'_>) -> Lane {
    let fields = formats.0.codec().fields;
    let here = |row: &Field| Field { fate: row.fate_towards(formats.0, formats.1), ..*row };
    let (particular, own) = (fields.towards(formats.1).flat_map(|towards| towards.request), fields.request);
    let differs = |row: &&Field| fields.towards(formats.1).flat_map(|t| t.request).all(|other| other.name != row.name);
    let top: Vec<Field> = own.iter().filter(differs).chain(particular).map(here).collect();
    let rows: Vec<Field> = top.iter().copied().chain(fields.inside.iter().map(here)).collect();
    let mut counts = Counts::default();
    for row in &rows {
        match row.fate {
            Fate::Carry | Fate::Twin(_) | Fate::QuietTwin(_) => counts.carried += 1,
            Fate::Drop(_) => counts.dropped += 1,
            Fate::Ignore(_) => counts.ignored += 1,
            Fate::Refuse(_) => counts.refused += 1,
        }
    }
    let (mut dropped, mut refused) = (Vec::new(), Vec::new());
    // What is refused costs the client its answer, wherever it stands; what is dropped inside is told by `--fields`.
    for row in &top {
        if let Fate::Drop(why) = row.fate {
            add(&mut dropped, why, shown(row.name));
        }
    }
    for (at, row) in rows.iter().enumerate() {
        if let Fate::Refuse(why) = row.fate {
            add(&mut refused, why, alone(row.name, rows.get(..at).unwrap_or_default()));
        }
    }
    let (mut here, mut here_refused) = (Vec::new(), Vec::new());
    for Taken { field, why, refused } in taken(formats, target) {
        add(if refused { &mut here_refused } else { &mut here }, &why, field.to_owned());
    }
    Lane::Translated { counts, dropped, refused, here, here_refused, rows }
}

fn add(groups: &mut Vec<Group>, why: &str, field: String) {
    match groups.iter_mut().find(|group| group.why == why) {
        Some(group) => group.fields.push(field),
        None => groups.push(Group { why: why.to_owned(), fields: vec![field] }),
    }
}

/// What becomes of a field, as `docs/FIELDS.md` calls it, and why.
pub(super) fn fate(field: &Field) -> (&'static str, &'static str) {
    match field.fate {
        Fate::Carry | Fate::Twin(_) | Fate::QuietTwin(_) => ("carried", ""),
        Fate::Drop(why) => ("dropped", why),
        Fate::Ignore(why) => ("without effect", why),
        Fate::Refuse(why) => ("refused", why),
    }
}

/// A row's name where it stands without those before it, of which the first that fits counts.
fn alone(name: &str, before: &[Field]) -> String {
    match name.strip_suffix("[*]") {
        Some(list)
            if before.iter().any(|row| row.name.strip_prefix(list).is_some_and(|rest| rest.starts_with('['))) =>
        {
            format!("{list}[any other]")
        }
        _ => shown(name),
    }
}

/// A row's name as people read it: `a.b|c` is `a.{b,c}`.
pub(super) fn shown(name: &str) -> String {
    if !name.contains('|') {
        return name.to_owned();
    }
    match name.rsplit_once('.') {
        Some((before, last)) => format!("{before}.{{{}}}", last.replace('|', ",")),
        None => format!("{{{}}}", name.replace('|', ",")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::caps::{Capabilities, Quirks};

    fn conversion(formats: (Format, Format), capabilities: &Capabilities, quirks: &Quirks) -> Lane {
        Conversion::new(formats, &Target { model: "up", capabilities, quirks }).lane
    }

    #[test]
    fn one_format_loses_only_what_the_provider_is_never_sent() {
        let drop_params = ["seed", "model", "stream"].map(str::to_owned).to_vec();
        let quirks = Quirks { drop_params, ..Quirks::default() };
        let lane = conversion((Format::OpenaiChat, Format::OpenaiChat), &Capabilities::default(), &quirks);
        assert!(matches!(&lane, Lane::Verbatim { never } if *never == ["seed"]), "{lane:?}");
    }

    #[test]
    fn two_formats_lose_what_the_tables_say_and_what_the_route_does_not_take() {
        let capabilities = Capabilities { sampling: false, images: false, ..Capabilities::default() };
        let lane = conversion((Format::OpenaiChat, Format::Anthropic), &capabilities, &Quirks::default());
        let Lane::Translated { counts, dropped, refused, here, here_refused, rows } = lane else {
            panic!("two formats");
        };
        assert_eq!(counts.carried + counts.dropped + counts.ignored + counts.refused, rows.len());
        let holds = |groups: &[Group], field: &str| groups.iter().any(|group| group.fields.iter().any(|f| f == field));
        assert!(holds(&dropped, "logit_bias") && holds(&dropped, "seed"), "{dropped:?}");
        assert!(holds(&refused, "n") && holds(&refused, "audio"), "{refused:?}");
        assert!(holds(&refused, "tools[any other]"), "functions are none of them: {refused:?}");
        assert!(holds(&here, "temperature") && holds(&here, "top_p"), "{here:?}");
        assert!(
            holds(&here, "messages[user].content[image_url]")
                || holds(&here_refused, "messages[user].content[image_url]"),
            "{here:?}"
        );
        let together = dropped.iter().find(|group| group.fields.iter().any(|f| f == "seed")).unwrap();
        assert!(together.fields.iter().any(|f| f == "logit_bias"), "one reason, one group: {dropped:?}");
    }

    #[test]
    fn names_are_written_as_in_the_documents() {
        for (name, expect) in [("a", "a"), ("a.b|c", "a.{b,c}"), ("a|b", "{a,b}"), ("a[x].b", "a[x].b")] {
            assert_eq!(shown(name), expect);
        }
    }
}
