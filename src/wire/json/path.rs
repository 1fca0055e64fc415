//! Where in a text a byte stands, in words.

use crate::wire::json::{Cursor, Kind, Result};

/// Names the place of a byte the way people write it: `messages[3].content[0].type`.
///
/// Walks the text again, so it is for errors and reports only. Text that cannot be read up to there gives the
/// path of the last place that could.
#[must_use]
pub fn path_at(text: &str, offset: usize) -> String {
    let mut path = String::new();
    let mut cursor = Cursor::new(text);
    while descend(&mut cursor, offset, &mut path).is_ok_and(|deeper| deeper) {}
    path
}

/// Finds the member that holds `offset`, names it, and stands before its value.
fn descend(cursor: &mut Cursor<'_>, offset: usize, path: &mut String) -> Result<bool> {
    match cursor.peek()? {
        Kind::Object => {
            cursor.object()?;
            loop {
                let key_at = cursor.at();
                let Some(key) = cursor.key()? else {
                    return Ok(false);
                };
                let value_at = cursor.at();
                let before = cursor.clone();
                let held = cursor.skip().is_err() || offset < cursor.passed();
                if key_at <= offset.saturating_add(1) && held {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(&key.decode());
                    *cursor = before;
                    return Ok(value_at < offset);
                }
            }
        }
        Kind::Array => {
            cursor.array()?;
            let mut index = 0_usize;
            while cursor.item()? {
                let value_at = cursor.at();
                let before = cursor.clone();
                if cursor.skip().is_err() || offset < cursor.passed() {
                    path.push_str(&format!("[{index}]"));
                    *cursor = before;
                    return Ok(value_at < offset);
                }
                index += 1;
            }
            Ok(false)
        }
        Kind::Str | Kind::Num | Kind::Bool | Kind::Null => Ok(false),
    }
}
