//! Thinking that an upstream writes into its text, between `<think>` and `</think>`, becomes thinking (CONVERSION 5.2).
//!
//! Only where the configuration says that the provider does so (`think_tags`): elsewhere a text may well begin with
//! these letters and mean them. Stands between a decoder and an encoder, and keeps the grammar: the first text block
//! becomes a block of thinking, a block of text, both or neither.

use crate::wire::event::{Delta, Event, Open, Sink};
use crate::wire::tags::{Split, Tags};

/// What has been read of an answer's first text.
#[derive(Clone, Debug, Default)]
pub(super) struct ThinkTags {
    stage: Stage,
    tags: Tags,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Stage {
    /// No text yet.
    #[default]
    Before,
    /// In the first text block, and what the reader has been told is open.
    First(Shown),
    /// Behind it.
    After,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Shown {
    Nothing,
    Thinking,
    Text,
}

impl ThinkTags {
    pub(super) fn event<'a>(&mut self, event: Event<'a>, sink: &mut dyn Sink<'a>) {
        match (self.stage, event) {
            (Stage::Before, Event::Open(Open::Text)) => self.stage = Stage::First(Shown::Nothing),
            (Stage::First(shown), Event::Delta(Delta::Text(text))) => {
                let split = self.tags.split(text);
                self.stage = Stage::First(show(split, shown, sink));
            }
            // A citation: it belongs to a text.
            (Stage::First(shown), Event::Delta(other)) => {
                let shown = show(self.tags.rest(), shown, sink);
                self.stage = Stage::First(enter(Shown::Text, shown, sink));
                sink.event(Event::Delta(other));
            }
            (Stage::First(shown), Event::Close) => {
                let shown = show(self.tags.rest(), shown, sink);
                enter(Shown::Nothing, shown, sink);
                self.stage = Stage::After;
            }
            (_, other) => sink.event(other),
        }
    }
}

/// Tells what a piece of text holds; what is open then.
fn show<'a>(split: Split<'a>, shown: Shown, sink: &mut dyn Sink<'a>) -> Shown {
    let Split { thought, text } = split;
    let mut shown = shown;
    if !thought.is_empty() {
        shown = enter(Shown::Thinking, shown, sink);
        sink.event(Event::Delta(Delta::Thinking(thought)));
    }
    if !text.is_empty() {
        shown = enter(Shown::Text, shown, sink);
        sink.event(Event::Delta(Delta::Text(text)));
    }
    shown
}

fn enter(wanted: Shown, shown: Shown, sink: &mut dyn Sink<'_>) -> Shown {
    if wanted == shown {
        return shown;
    }
    if shown != Shown::Nothing {
        sink.event(Event::Close);
    }
    match wanted {
        Shown::Nothing => {}
        Shown::Thinking => sink.event(Event::Open(Open::Thinking)),
        Shown::Text => sink.event(Event::Open(Open::Text)),
    }
    wanted
}
