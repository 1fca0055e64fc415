//! `db query` and `db export`: rows of the journal, for whoever reckons with them elsewhere.

use std::io::{self, BufWriter, Write};

use crate::cli::db::{Trouble, reader, since, tell};
use crate::cli::parse::Given;
use crate::cli::{Exit, Unready, say};
use crate::journal::{StoreError, Value};
use crate::wire::json::Writer;

pub(crate) fn query(given: &Given) -> Exit {
    tell(given, |given, path| {
        let [sql] = given.rest.as_slice() else {
            return Err(
                Unready::Usage("takes one query, in quotes: db query \"SELECT count(*) FROM log\"".to_owned()).into()
            );
        };
        let sql = sql.to_str().ok_or_else(|| Unready::Usage("the query is not UTF-8".to_owned()))?;
        let mut out = Out::new(given.text_or_default("format")?, &["table", "json", "csv"])?;
        reader(given, path)?.query(sql, &[], &mut |names, values| out.row(names, values)).map_err(unanswered)?;
        Ok(out.end())
    })
}

/// Why a query has no answer: it was not asked rightly, or the journal cannot be read.
fn unanswered(error: StoreError) -> Trouble {
    if error.is_of_another_file() {
        let message = "only the journal is asked: no other file is attached, and no copy is written";
        return Unready::Usage(message.to_owned()).into();
    }
    if error.is_of_the_query() { Unready::Usage(error.to_string()).into() } else { error.into() }
}

pub(crate) fn export(given: &Given) -> Exit {
    tell(given, |given, path| {
        let since_ms = since(given)?.saturating_mul(1000);
        let mut out = Out::new(given.text_or_default("format")?, &["ndjson", "csv"])?;
        let sql = "SELECT * FROM log WHERE ?1 <= at_ms ORDER BY id";
        reader(given, path)?.query(sql, &[since_ms], &mut |names, values| out.row(names, values))?;
        Ok(out.end())
    })
}

/// Where rows go, and how they look.
struct Out {
    to: BufWriter<io::Stdout>,
    form: Form,
    /// Nothing was written yet.
    is_fresh: bool,
    /// Rows of a table, whose widths are known at its end only.
    table: Vec<Vec<String>>,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Form {
    Table,
    /// An object in each line.
    Json,
    Csv,
}

impl Out {
    fn new(form: &str, known: &[&str]) -> Result<Self, Trouble> {
        let form = match form {
            "table" if known.contains(&form) => Form::Table,
            "json" | "ndjson" if known.contains(&form) => Form::Json,
            "csv" => Form::Csv,
            other => return Err(Unready::Usage(format!("--format takes {}, not {other:?}", known.join(", "))).into()),
        };
        Ok(Self { to: BufWriter::new(io::stdout()), form, is_fresh: true, table: Vec::new() })
    }

    /// Writes a row. `false`: nobody reads on.
    fn row(&mut self, names: &[&str], values: &[Value<'_>]) -> bool {
        let is_first = std::mem::take(&mut self.is_fresh);
        match self.form {
            Form::Table => {
                if is_first {
                    self.table.push(names.iter().map(|name| name.to_uppercase()).collect());
                }
                self.table.push(values.iter().map(shown).collect());
                true
            }
            Form::Json => {
                let mut line = json(names, values);
                line.push(b'\n');
                say::arrived(self.to.write_all(&line))
            }
            Form::Csv => {
                let head = if is_first { csv(names.iter().map(|name| (*name).to_owned())) } else { String::new() };
                let line = csv(values.iter().map(|value| match value {
                    Value::Null => String::new(),
                    value @ (Value::Int(_) | Value::Real(_) | Value::Text(_)) => shown(value),
                }));
                say::arrived(self.to.write_all(head.as_bytes()).and_then(|()| self.to.write_all(line.as_bytes())))
            }
        }
    }

    /// No more rows come.
    fn end(mut self) -> Exit {
        let table = say::columns(&self.table, usize::MAX);
        say::arrived(self.to.write_all(table.as_bytes()).and_then(|()| self.to.flush()));
        Exit::Fine
    }
}

fn json(names: &[&str], values: &[Value<'_>]) -> Vec<u8> {
    let mut line = Vec::new();
    let mut w = Writer::new(&mut line);
    w.object();
    for (name, value) in names.iter().zip(values) {
        w.key(name);
        match value {
            Value::Text(text) => w.str(text),
            // What is no number to JSON is none here either.
            Value::Real(n) if !n.is_finite() => w.null(),
            Value::Null => w.null(),
            value @ (Value::Int(_) | Value::Real(_)) => w.raw(&shown(value)),
        };
    }
    w.end_object();
    line
}

fn shown(value: &Value<'_>) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Int(n) => n.to_string(),
        Value::Real(n) => n.to_string(),
        Value::Text(text) => (*text).to_owned(),
    }
}

/// One line, quoted where it must be (RFC 4180).
fn csv(cells: impl Iterator<Item = String>) -> String {
    let quoted = |cell: String| match cell.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell,
    };
    cells.map(quoted).collect::<Vec<_>>().join(",") + "\r\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_their_readers_want_them() {
        let names = ["a", "b", "c", "d", "e"];
        let values =
            [Value::Null, Value::Int(-5), Value::Real(1.5), Value::Text("x,\"y\"\n"), Value::Real(f64::INFINITY)];
        let line = String::from_utf8(json(&names, &values)).unwrap();
        assert_eq!(line, r#"{"a":null,"b":-5,"c":1.5,"d":"x,\"y\"\n","e":null}"#);
        assert_eq!(csv(values.iter().map(shown)), "-,-5,1.5,\"x,\"\"y\"\"\n\",inf\r\n");
    }
}
