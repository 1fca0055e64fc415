//! Requests that each set one thing of those that are carried, if the route takes it. See [`crate::wire::probe`].

use crate::wire::probe::{LIMITS, Needed, Probe};

pub(super) const NEEDED: &[Needed] = &[(LIMITS, "\"max_output_tokens\":4096"), (&["\"input\""], "\"input\":\"hi\"")];

pub(super) const PROBES: &[Probe] = &[
    Probe::new("max_output_tokens", r#""max_output_tokens":1000000000"#),
    Probe::new("instructions", r#""instructions":"be brief""#),
    Probe::new("temperature", r#""temperature":0.5"#),
    Probe::new("temperature=1.5", r#""temperature":1.5"#),
    Probe::new("top_p", r#""top_p":0.5"#),
    Probe::new("top_p", r#""top_p":0.5,"temperature":0.5"#),
    Probe::new("tools", r#""tools":[{"type":"function","name":"f","strict":false,"parameters":{"type":"object"}}]"#),
    Probe::new(
        "tools[function].strict",
        r#""tools":[{"type":"function","name":"f","strict":true,"parameters":{"type":"object",
            "properties":{},"required":[],"additionalProperties":false}}]"#,
    ),
    Probe::new(
        "tool_choice",
        r#""tool_choice":"required",
            "tools":[{"type":"function","name":"f","strict":false,"parameters":{"type":"object"}}]"#,
    ),
    Probe::new(
        "parallel_tool_calls",
        r#""parallel_tool_calls":false,
            "tools":[{"type":"function","name":"f","strict":false,"parameters":{"type":"object"}}]"#,
    ),
    Probe::new(r#"reasoning.effort="none""#, r#""reasoning":{"effort":"none"}"#),
    Probe::new("reasoning.effort", r#""reasoning":{"effort":"high"}"#),
    Probe::new(
        "text.format(json_schema)",
        r#""text":{"format":{"type":"json_schema","name":"a","strict":true,"schema":{"type":"object",
            "properties":{},"required":[],"additionalProperties":false}}}"#,
    ),
    Probe::new("user", r#""user":"someone""#),
    Probe::new("safety_identifier", r#""safety_identifier":"someone""#),
    Probe::new("service_tier", r#""service_tier":"auto""#),
    Probe::new(
        "input[message] of developers between turns",
        r#""input":[{"role":"user","content":"hi"},{"role":"assistant","content":"yes"},
            {"role":"developer","content":"be brief"},{"role":"user","content":"go"}]"#,
    ),
    Probe::new(
        "input[message].content[input_image]",
        r#""input":[{"role":"user","content":[{"type":"input_image","image_url":"data:image/png;base64,iVBORw0KGgo="}]}]"#,
    ),
    Probe::new(
        "input[message].content[input_file]",
        r#""input":[{"role":"user","content":[{"type":"input_file","filename":"a.pdf",
            "file_data":"data:application/pdf;base64,JVBERi0xLjQK"}]}]"#,
    ),
];
