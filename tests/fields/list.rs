//! The lists of fields, and values for each.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use model_proxy::wire::Format;
use model_proxy::wire::loss::Field;
use serde_json::{Value, json};

/// One line of a list.
#[derive(Clone, Debug)]
pub struct Listed {
    pub path: String,
    pub types: Vec<String>,
    pub required: bool,
}

/// All fields of one format's requests, replies or streams.
pub struct List {
    pub format: Format,
    pub kind: &'static str,
    pub lines: BTreeMap<String, Listed>,
    /// Each object's path, and the names of its members.
    objects: BTreeMap<String, Vec<String>>,
}

const KINDS: [&str; 3] = ["request", "reply", "stream"];

impl List {
    pub fn all() -> Vec<Self> {
        let mut lists = Vec::new();
        for format in Format::ALL {
            for kind in KINDS {
                let mut lines = BTreeMap::new();
                for file in ["fields.txt", "beyond.txt"] {
                    let text = fs::read_to_string(root().join("tests/sdk").join(file)).unwrap();
                    for line in text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
                        let words: Vec<&str> = line.split(' ').collect();
                        let [of, what, path, types, rest @ ..] = words.as_slice() else { panic!("{file}: {line}") };
                        if *of == format.as_str() && *what == kind {
                            let types = types.split('|').map(str::to_owned).collect();
                            let listed = Listed { path: (*path).to_owned(), types, required: rest == ["required"] };
                            let known = lines.insert((*path).to_owned(), listed);
                            assert!(known.is_none(), "{path} stands in both lists");
                        }
                    }
                }
                let mut objects: BTreeMap<String, Vec<String>> = BTreeMap::new();
                for path in lines.keys() {
                    let (object, name) = path.rsplit_once('.').unwrap_or(("", path));
                    objects.entry(object.to_owned()).or_default().push(name.to_owned());
                }
                lists.push(Self { format, kind, lines, objects });
            }
        }
        lists
    }

    /// The members of the object at a path.
    fn members<'l>(&'l self, scope: &'l str) -> impl Iterator<Item = (&'l str, &'l Listed)> {
        let names = self.objects.get(scope).into_iter().flatten();
        let path = move |name: &str| if scope.is_empty() { name.to_owned() } else { format!("{scope}.{name}") };
        names.map(move |name| (name.as_str(), &self.lines[&path(name)]))
    }

    /// The kinds of object that may stand at a path, after an opening bracket of this sort: `""` is the only kind.
    pub fn scopes(&self, path: &str, bracket: &str) -> BTreeSet<String> {
        let after = self.objects.range(path.to_owned()..).map(|(object, _)| object);
        let inside = after.take_while(|object| object.starts_with(path)).filter(|object| {
            let kind = &object[path.len()..];
            !kind.contains('.') && kind.starts_with(bracket) && kind.is_empty() == bracket.is_empty()
        });
        inside.cloned().collect()
    }

    /// An object with what it must have.
    fn object(&self, scope: &str) -> Value {
        let required = self.members(scope).filter(|(_, line)| line.required);
        Value::Object(required.map(|(name, line)| (name.to_owned(), self.values(line).swap_remove(0))).collect())
    }

    /// Values a field may have: at least two where there is a choice, the most ordinary first.
    pub fn values(&self, line: &Listed) -> Vec<Value> {
        let is_tag = |kind: &&str| line.types.iter().any(|word| word.trim_matches('"') == *kind);
        if let Some(kind) = kind_of(&line.path).filter(is_tag) {
            return vec![json!(kind)];
        }
        let is_fixed = |types: &[String]| matches!(types, [only] if only.starts_with('"'));
        if let Some((_, values)) =
            SAMPLES.iter().find(|(end, _)| ends_with(&line.path, end)).filter(|_| !is_fixed(&line.types))
        {
            return serde_json::from_str(values).unwrap();
        }
        let mut values = Vec::new();
        for word in &line.types {
            match word.as_str() {
                "null" => {}
                "string" => values.splice(0..0, [json!("s1"), json!("s2")]).for_each(drop),
                "int" => values.extend([json!(7), json!(8)]),
                "number" => values.extend([json!(0.25), json!(0.5)]),
                "bool" => values.extend([json!(true), json!(false)]),
                "any" => values.extend([json!({"k": 1}), json!({"k": 2})]),
                "object" => {
                    let mut scopes = self.scopes(&line.path, "");
                    scopes.extend(self.scopes(&line.path, "("));
                    values.extend(scopes.iter().map(|scope| self.object(scope)));
                    for scope in self.scopes(&line.path, "{}") {
                        values.push(json!({"k": self.object(&scope)}));
                    }
                    if scopes.is_empty() {
                        values.extend([json!({"k": 1}), json!({"k": 2})]);
                    }
                }
                "list:object" => {
                    let scopes = self.scopes(&line.path, "[");
                    values.extend(scopes.iter().map(|scope| json!([self.object(scope)])));
                    if scopes.is_empty() {
                        values.extend([json!([{"k": 1}]), json!([{"k": 2}])]);
                    }
                }
                "list:string" => values.extend([json!(["s1"]), json!(["s2"])]),
                "list:any" => values.extend([json!([{"k": 1}]), json!([{"k": 2}])]),
                "list:number" => values.extend([json!([0.25]), json!([0.5])]),
                "list:int" => values.extend([json!([7]), json!([8])]),
                word => match word.strip_prefix("list:") {
                    Some(word) => values.push(json!([serde_json::from_str::<Value>(word).unwrap()])),
                    None => values.push(serde_json::from_str(word).unwrap()),
                },
            }
        }
        values
    }

    /// A body that holds the field at a path with a value (or, with `None`, all around it but not the field itself).
    pub fn with(&self, path: &str, value: Option<&Value>) -> Value {
        let parts: Vec<&str> = path.split('.').collect();
        self.build(&parts, self.event_parts(path), value)
    }

    fn build(&self, parts: &[&str], depth: usize, value: Option<&Value>) -> Value {
        let mut object = self.object(&parts[..depth].join("."));
        let part = parts[depth];
        let name = part.split(['[', '(', '{']).next().unwrap();
        let members = object.as_object_mut().unwrap();
        if depth + 1 == parts.len() {
            match value {
                Some(value) => members.insert(name.to_owned(), value.clone()),
                None => members.remove(name),
            };
            return object;
        }
        let inner = self.build(parts, depth + 1, value);
        let wrapped = match part[name.len()..].chars().next() {
            Some('[') => json!([inner]),
            Some('{') => json!({"k": inner}),
            _ => inner,
        };
        members.insert(name.to_owned(), wrapped);
        object
    }

    /// Paths begin with the event.
    fn has_events(&self) -> bool {
        self.kind == "stream" && self.format != Format::OpenaiChat
    }

    /// The formats it is converted to.
    pub fn targets(&self) -> impl Iterator<Item = Format> {
        let from = self.format;
        Format::ALL.into_iter().filter(move |to| *to != from)
    }

    /// Whether a stream with this event in it breaks.
    pub fn is_error(&self, path: &str) -> bool {
        matches!(self.event_of(path), "error" | "response.failed")
    }

    /// The event a path begins with.
    pub fn event_of<'p>(&self, path: &'p str) -> &'p str {
        let parts = self.event_parts(path);
        path.match_indices('.').nth(parts.saturating_sub(1)).map_or(path, |(end, _)| &path[..end])
    }

    /// How many parts of a path name the event: its name has dots in OpenAI's Responses.
    fn event_parts(&self, path: &str) -> usize {
        let longest = self
            .objects
            .keys()
            .filter(|object| !object.contains(['[', '(']) && path.starts_with(&format!("{object}.")));
        let event = longest
            .filter(|object| self.lines.contains_key(&format!("{object}.type")))
            .min_by_key(|object| object.len());
        if self.has_events() { event.map_or(1, |event| event.split('.').count()) } else { 0 }
    }

    /// The rows that are for every way, in the order in which they count.
    pub fn tables(&self) -> Vec<&'static Field> {
        let fields = &self.format.codec().fields;
        match self.kind {
            "request" => fields.inside.iter().chain(fields.request).collect(),
            "reply" => fields.reply.iter().collect(),
            _ => fields.stream.iter().collect(),
        }
    }

    /// Those that are for the way to one format only.
    pub fn particular(&self, to: Format) -> Vec<&'static Field> {
        let rows = self.format.codec().fields.towards(to).flat_map(|towards| match self.kind {
            "request" => towards.request,
            "reply" => towards.reply,
            _ => towards.stream,
        });
        rows.collect()
    }

    /// All rows on the way to one format, in the order in which they count.
    pub fn tables_towards(&self, to: Format) -> Vec<&'static Field> {
        [self.particular(to), self.tables()].concat()
    }
}

/// Values for fields that do not take just any.
const SAMPLES: &[(&str, &str)] = &[
    ("function.arguments", r#"["{\"a\":1}","{\"a\":2}"]"#),
    ("function_call.arguments", r#"["{\"a\":1}","{\"a\":2}"]"#),
    ("partial_json", r#"["{\"a\":1}","{\"a\":2}"]"#),
    ("input_schema.properties", r#"[{},{"a":{"type":"string"}}]"#),
    (
        "input_schema",
        r#"[{"type":"object","properties":{},"required":[],"additionalProperties":false},{"type":"object"}]"#,
    ),
    (
        "parameters",
        r#"[{"type":"object","properties":{},"required":[],"additionalProperties":false},{"type":"object","title":"t","properties":{},"required":[],"additionalProperties":false}]"#,
    ),
    (
        "format(json_schema).schema",
        r#"[{"type":"object","properties":{},"required":[],"additionalProperties":false},{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false}]"#,
    ),
    ("tool_choice(allowed_tools).tools", r#"[[{"type":"function","name":"s1"}],[{"type":"function","name":"s2"}]]"#),
    ("output[reasoning].summary", r#"[[],[{"type":"summary_text","text":"s1"}]]"#),
    ("usage.input_tokens", "[1000,2000]"),
    (
        "json_schema.schema",
        r#"[{"type":"object","properties":{},"additionalProperties":false},{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false}]"#,
    ),
    (
        "format.schema",
        r#"[{"type":"object","properties":{},"additionalProperties":false},{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false}]"#,
    ),
    ("image_url.url", r#"["https://a.b/c.png","data:image/png;base64,iVBORw0KGgo=","https://a.b/c.pdf"]"#),
    ("file.file_data", r#"["data:application/pdf;base64,JVBERi0x","data:text/plain;base64,YWJj"]"#),
    ("source(base64).data", r#"["AAAA","BBBB"]"#),
    ("total_tokens", "[1,100]"),
    ("message_start.message.content", r#"[[],[{"type":"text","text":"s1"}]]"#),
    ("max_tokens", "[5000,6000]"),
    ("max_completion_tokens", "[5000,6000]"),
    ("budget_tokens", "[2000,9000]"),
    ("messages[].role", r#"["user","assistant","system"]"#),
    ("choices[].finish_reason", r#"["stop","length","content_filter","tool_calls","function_call"]"#),
    ("choices[].index", "[0]"),
    ("choices[].stop_reason", r#"["s1","s2"]"#),
    ("stop_reason", r#"["end_turn","max_tokens","refusal","pause_turn","model_context_window_exceeded"]"#),
    ("error.error.type", r#"["invalid_request_error","overloaded_error"]"#),
    ("error.type", r#"["invalid_request_error","rate_limit_error"]"#),
    ("error.code", r#"["rate_limit_exceeded","context_length_exceeded"]"#),
    ("output_index", "[0]"),
    ("content_index", "[0]"),
    ("summary_index", "[0]"),
    ("created.response", RESPONSES),
    ("in_progress.response", RESPONSES),
    ("queued.response", RESPONSES),
    ("completed.response", COMPLETED),
    ("incomplete.response", INCOMPLETE),
    ("failed.response", FAILED),
    ("output_item.added.item", CALLS),
    ("output_item.done.item", CALLS),
    ("max_output_tokens", "[5000,6000]"),
    ("include", r#"[["reasoning.encrypted_content"],["message.output_text.logprobs"]]"#),
    ("reasoning.effort", r#"["high","low"]"#),
    ("input[message].role", r#"["user","assistant","developer"]"#),
    ("input[function_call].arguments", r#"["{\"a\":1}","{\"a\":2}"]"#),
    ("input_image].image_url", r#"["https://a.b/c.png","data:image/png;base64,iVBORw0KGgo="]"#),
    ("input_file].file_data", r#"["data:application/pdf;base64,JVBERi0x","data:text/plain;base64,YWJj"]"#),
    ("output[function_call].arguments", r#"["{\"a\":1}","{\"a\":2}"]"#),
    ("incomplete_details.reason", r#"["max_output_tokens","content_filter"]"#),
    ("content_block_start.index", "[0]"),
    ("content_block_delta.index", "[0]"),
    ("content_block_stop.index", "[0]"),
];

/// Whether a path is this one, or ends with it at a member's beginning.
pub fn ends_with(path: &str, end: &str) -> bool {
    path.strip_suffix(end).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

/// The kind of object a tag stands in, if the path tells.
pub fn kind_of(path: &str) -> Option<&str> {
    let (object, name) = path.rsplit_once('.')?;
    let inside = object.strip_suffix([']', ')'])?;
    let (_, kind) = inside.rsplit_once(['[', '('])?;
    (matches!(name, "type" | "role") && !kind.is_empty()).then_some(kind)
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

const RESPONSES: &str = r#"[{"id":"resp_1","object":"response","created_at":7,"model":"m","status":"in_progress","output":[],"tools":[],"tool_choice":"auto","parallel_tool_calls":true},{"id":"resp_2","object":"response","created_at":8,"model":"n","status":"in_progress","output":[],"tools":[],"tool_choice":"auto","parallel_tool_calls":true}]"#;
const COMPLETED: &str = r#"[{"id":"resp_1","object":"response","created_at":7,"model":"m","status":"completed","output":[],"usage":{"input_tokens":1,"output_tokens":2,"total_tokens":3}},{"id":"resp_1","object":"response","created_at":7,"model":"m","status":"completed","output":[],"usage":{"input_tokens":2,"output_tokens":3,"total_tokens":5}}]"#;
const INCOMPLETE: &str = r#"[{"id":"resp_1","object":"response","created_at":7,"model":"m","status":"incomplete","output":[],"incomplete_details":{"reason":"max_output_tokens"}},{"id":"resp_1","object":"response","created_at":7,"model":"m","status":"incomplete","output":[],"incomplete_details":{"reason":"content_filter"}}]"#;
const FAILED: &str = r#"[{"id":"resp_1","object":"response","created_at":7,"model":"m","status":"failed","output":[],"error":{"code":"server_error","message":"one"}},{"id":"resp_1","object":"response","created_at":7,"model":"m","status":"failed","output":[],"error":{"code":"server_error","message":"two"}}]"#;
const CALLS: &str = r#"[{"type":"function_call","id":"s1","call_id":"c1","name":"s1","arguments":"{}"},{"type":"function_call","id":"s1","call_id":"c1","name":"s2","arguments":"{}"}]"#;
