//! Requests that each set one thing of those that are carried, if the route takes it. See [`crate::wire::probe`].

use crate::wire::probe::Probe;

pub(super) const PROBES: &[Probe] = &[
    Probe::new("max_tokens", r#""max_tokens":1000000000"#),
    Probe::new("metadata.user_id", r#""metadata":{"user_id":"someone"}"#),
    Probe::new("output_config.effort", r#""output_config":{"effort":"high"}"#),
    Probe::new(
        "output_config.format",
        r#""output_config":{"format":{"type":"json_schema","schema":{"type":"object","properties":{},
            "required":[],"additionalProperties":false}}}"#,
    ),
    Probe::new(
        "output_format",
        r#""output_format":{"type":"json_schema","schema":{"type":"object","properties":{},"required":[],
            "additionalProperties":false}}"#,
    ),
    Probe::new("service_tier", r#""service_tier":"auto""#),
    Probe::new("stop_sequences", r#""stop_sequences":["END"]"#),
    Probe::new("stop_sequences, five of them", r#""stop_sequences":["1","2","3","4","5"]"#),
    Probe::new("system", r#""system":"be brief""#),
    Probe::new("temperature", r#""temperature":0.5"#),
    Probe::new("thinking(enabled)", r#""thinking":{"type":"enabled","budget_tokens":2000}"#),
    Probe::new("thinking(adaptive)", r#""thinking":{"type":"adaptive"}"#),
    Probe::new("thinking(disabled)", r#""thinking":{"type":"disabled"}"#),
    Probe::new("top_k", r#""top_k":5"#),
    Probe::new("top_p", r#""top_p":0.5"#),
    Probe::new("top_p", r#""top_p":0.5,"temperature":0.5"#),
    Probe::new("tools", r#""tools":[{"name":"f","input_schema":{"type":"object"}}]"#),
    Probe::new(
        "tools[custom].strict",
        r#""tools":[{"name":"f","strict":true,"input_schema":{"type":"object","properties":{},
            "required":[],"additionalProperties":false}}]"#,
    ),
    Probe::new(
        "tool_choice",
        r#""tool_choice":{"type":"any"},"tools":[{"name":"f","input_schema":{"type":"object"}}]"#,
    ),
    Probe::new(
        "messages[assistant] at the end",
        r#""messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"It is"}]"#,
    ),
    Probe::new(
        "messages[].content[image]",
        r#""messages":[{"role":"user","content":[{"type":"image",
            "source":{"type":"base64","media_type":"image/png","data":"iVBORw0KGgo="}}]}]"#,
    ),
    Probe::new(
        "messages[].content[document]",
        r#""messages":[{"role":"user","content":[{"type":"document",
            "source":{"type":"base64","media_type":"application/pdf","data":"JVBERi0xLjQK"}}]}]"#,
    ),
    Probe::new(
        "messages[].content[tool_result].content[image]",
        r#""messages":[{"role":"user","content":"hi"},{"role":"assistant","content":[{"type":"tool_use",
            "id":"c1","name":"f","input":{}}]},{"role":"user","content":[{"type":"tool_result",
            "tool_use_id":"c1","content":[{"type":"image",
            "source":{"type":"base64","media_type":"image/png","data":"iVBORw0KGgo="}}]}]}],
            "tools":[{"name":"f","input_schema":{"type":"object"}}]"#,
    ),
];
