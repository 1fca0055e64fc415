//! Tells the thinking in an answer's text, `<think>…</think>`, from the rest of it (CONVERSION 5.2).
//!
//! ```text
//! before ─<think>─▶ thought ─</think>─▶ after ─▶ answer
//!    └───────────────── anything else ─────────────▲
//! ```
//!
//! Only what an answer begins with is thinking: later on the tag is the answer's own word, as in one about HTML. The
//! white space around the tags is their own. A tag may be cut anywhere and spelled with escapes; what may yet become
//! one is held, and nothing else is.

use crate::wire::json::JsonStr;

/// How far an answer's text has come.
#[derive(Clone, Debug, Default)]
pub(super) struct Tags {
    state: State,
    /// What has come and is not told: white space, then what a tag begins with, as it was spelled.
    held: String,
    /// Letters of the tag at the end of `held`.
    matched: usize,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum State {
    #[default]
    Before,
    /// Whether anything but white space has been thought.
    Thought {
        begun: bool,
    },
    After,
    /// Text goes through untouched.
    Answer,
}

/// What a piece of text holds: the end of a thought, then the beginning of the answer. Either may be empty.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Split<'a> {
    pub(super) thought: JsonStr<'a>,
    pub(super) text: JsonStr<'a>,
}

impl Tags {
    /// Takes the next piece of text.
    pub(super) fn split<'a>(&mut self, text: JsonStr<'a>) -> Split<'a> {
        if self.state == State::Answer {
            return Split { text, ..Split::default() };
        }
        let mut thought = String::new();
        let mut rest = text.literal();
        while let Some(unit) = Unit::first(rest) {
            if self.begins_answer(&unit, &mut thought) {
                break;
            }
            rest = unit.after;
        }
        let answer = match self.state {
            State::Answer => std::mem::take(&mut self.held) + rest,
            State::Before | State::Thought { .. } | State::After => String::new(),
        };
        Split { thought: JsonStr::spelled(thought), text: JsonStr::spelled(answer) }
    }

    /// No more text follows, or something else comes first: tells what was held.
    pub(super) fn rest(&mut self) -> Split<'static> {
        let held = JsonStr::spelled(std::mem::take(&mut self.held));
        match std::mem::replace(&mut self.state, State::Answer) {
            State::Before => Split { text: held, ..Split::default() },
            State::Thought { .. } if 0 < self.matched => Split { thought: held, ..Split::default() },
            State::Thought { .. } | State::After | State::Answer => Split::default(),
        }
    }

    /// Takes one unit, unless the answer begins with it, or with what was held before it.
    fn begins_answer(&mut self, unit: &Unit<'_>, thought: &mut String) -> bool {
        match self.state {
            State::Before if unit.is(OPEN, self.matched) => {
                if self.matches(unit, OPEN) {
                    self.state = State::Thought { begun: false };
                }
            }
            State::Before if self.matched == 0 && unit.is_white() && self.held.len() < HELD_BYTES_MAX => {
                self.held.push_str(unit.spelled);
            }
            State::Thought { .. } if unit.is(CLOSE, self.matched) => {
                if self.matches(unit, CLOSE) {
                    self.state = State::After;
                }
            }
            State::Thought { .. } if 0 < self.matched => {
                // It only looked like the tag; this may still be its beginning.
                self.tell(thought);
                return self.begins_answer(unit, thought);
            }
            State::Thought { begun } if unit.is_white() && self.held.len() < HELD_BYTES_MAX => {
                self.held.push_str(if begun { unit.spelled } else { "" });
            }
            State::Thought { .. } => {
                self.tell(thought);
                thought.push_str(unit.spelled);
            }
            State::After if unit.is_white() => {}
            State::Before | State::After | State::Answer => {
                self.state = State::Answer;
                return true;
            }
        }
        false
    }

    /// Takes one more letter of a tag; whether that was the last.
    fn matches(&mut self, unit: &Unit<'_>, tag: &str) -> bool {
        self.held.push_str(unit.spelled);
        self.matched += 1;
        let whole = self.matched == tag.len();
        if whole {
            self.held.clear();
            self.matched = 0;
        }
        whole
    }

    /// What was held is part of the thought after all.
    fn tell(&mut self, thought: &mut String) {
        thought.push_str(&self.held);
        self.held.clear();
        self.matched = 0;
        self.state = State::Thought { begun: true };
    }
}

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// Most white space that is held, in bytes: more of it is the text's own.
const HELD_BYTES_MAX: usize = 1024;

/// A letter of a literal: as it is spelled, and what it means.
struct Unit<'l> {
    spelled: &'l str,
    /// `None`: half of a pair of surrogates.
    means: Option<char>,
    after: &'l str,
}

impl<'l> Unit<'l> {
    fn first(literal: &'l str) -> Option<Self> {
        let mut chars = literal.chars();
        let means = match chars.next()? {
            '\\' => match chars.next()? {
                'u' => {
                    let code = chars.as_str().get(..4).and_then(|digits| u32::from_str_radix(digits, 16).ok());
                    chars = chars.as_str().get(4..).unwrap_or_default().chars();
                    code.and_then(char::from_u32)
                }
                'n' => Some('\n'),
                'r' => Some('\r'),
                't' => Some('\t'),
                other => Some(other),
            },
            plain => Some(plain),
        };
        let after = chars.as_str();
        Some(Self { spelled: literal.get(..literal.len() - after.len())?, means, after })
    }

    /// Whether it is this letter of a tag.
    fn is(&self, tag: &str, at: usize) -> bool {
        self.means.is_some() && self.means == tag.as_bytes().get(at).copied().map(char::from)
    }

    fn is_white(&self) -> bool {
        self.means.is_some_and(char::is_whitespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Splits a text whole, and cut before every letter: the thought and the answer are the same.
    #[track_caller]
    fn check(text: &str, thought: &str, answer: &str) {
        let mut units = Vec::new();
        let mut rest = text;
        while let Some(unit) = Unit::first(rest) {
            units.push(unit.spelled);
            rest = unit.after;
        }
        for pieces in [vec![text], units] {
            let mut tags = Tags::default();
            let (mut thoughts, mut answers) = (String::new(), String::new());
            let mut take = |split: Split<'_>| {
                assert!(split.thought.is_empty() || answers.is_empty(), "thoughts come first");
                thoughts.push_str(split.thought.literal());
                answers.push_str(split.text.literal());
            };
            for piece in pieces {
                take(tags.split(JsonStr::spelled(piece.to_owned())));
            }
            take(tags.rest());
            assert_eq!((thoughts.as_str(), answers.as_str()), (thought, answer), "{text}");
        }
    }

    #[test]
    fn what_an_answer_begins_with_is_its_thinking() {
        check("<think>a</think>b", "a", "b");
        check(r"\n<think>\na b\n\nc\n</think>\n\n d ", r"a b\n\nc", "d ");
        check(r"\u003cthink\u003ea\u003c/think\u003eb", "a", "b");
        check("<think></think>b", "", "b");
        check(r"<think>\n\n</think>\n\nb", "", "b");
        check("<think>a", "a", "");
        check("<think>a</thi", "a</thi", "");
        check("<think>a < b </ c <</think>d", "a < b </ c <", "d");
        check("<think>a</think>b<think>c</think>", "a", "b<think>c</think>");
    }

    #[test]
    fn an_answer_without_tags_is_as_it_came() {
        check(r"\n  a <think>b</think>", "", r"\n  a <think>b</think>");
        check("<thin", "", "<thin");
        check("<b>a</b>", "", "<b>a</b>");
        check("<<think>a</think>", "", "<<think>a</think>");
        check(r"\ud83d\ude00 \\ \ud800", "", r"\ud83d\ude00 \\ \ud800");
        check(" ", "", " ");
    }

    #[test]
    fn escapes_in_a_thought_stay_spelled() {
        check(r#"<think>\"\\\ud83d\ude00\u00e9\ud800</think>\u00e9"#, r#"\"\\\ud83d\ude00\u00e9\ud800"#, r"\u00e9");
    }

    #[test]
    fn endless_white_space_is_not_held() {
        let mut tags = Tags::default();
        let white = " ".repeat(HELD_BYTES_MAX * 2);
        assert_eq!(tags.split(JsonStr::quote(&white)).text.literal().len(), white.len());
        let mut tags = Tags::default();
        tags.split(JsonStr::quote("<think>a"));
        tags.split(JsonStr::quote(&white));
        assert!(tags.held.len() <= HELD_BYTES_MAX, "{}", tags.held.len());
    }
}
