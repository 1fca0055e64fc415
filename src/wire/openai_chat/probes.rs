//! Requests that each set one thing of those that are carried, if the route takes it. See [`crate::wire::probe`].

use crate::wire::probe::Probe;

pub(super) const PROBES: &[Probe] = &[
    Probe::new("max_tokens", r#""max_tokens":1000000000"#),
    Probe::new("max_completion_tokens", r#""max_completion_tokens":1000000000"#),
    Probe::new("temperature", r#""temperature":0.5"#),
    Probe::new("temperature=1.5", r#""temperature":1.5"#),
    Probe::new("top_p", r#""top_p":0.5"#),
    Probe::new("top_p", r#""top_p":0.5,"temperature":0.5"#),
    Probe::new("top_k", r#""top_k":5"#),
    Probe::new("stop", r#""stop":["END"]"#),
    Probe::new("tools", r#""tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}]"#),
    Probe::new(
        "tools[function].function.strict",
        r#""tools":[{"type":"function","function":{"name":"f","strict":true,"parameters":{"type":"object",
            "properties":{},"required":[],"additionalProperties":false}}}]"#,
    ),
    Probe::new(
        "tool_choice",
        r#""tool_choice":"required",
            "tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}]"#,
    ),
    Probe::new(
        "parallel_tool_calls",
        r#""parallel_tool_calls":false,
            "tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}]"#,
    ),
    Probe::new("functions", r#""functions":[{"name":"f","parameters":{"type":"object"}}]"#),
    Probe::new(
        "function_call",
        r#""function_call":{"name":"f"},"functions":[{"name":"f","parameters":{"type":"object"}}]"#,
    ),
    Probe::new(r#"reasoning_effort="none""#, r#""reasoning_effort":"none""#),
    Probe::new("reasoning_effort", r#""reasoning_effort":"high""#),
    Probe::new(
        "response_format(json_schema)",
        r#""response_format":{"type":"json_schema","json_schema":{"name":"a","schema":{"type":"object",
            "properties":{},"required":[],"additionalProperties":false}}}"#,
    ),
    Probe::new("user", r#""user":"someone""#),
    Probe::new("user that is an e-mail address", r#""user":"someone@example.com""#),
    Probe::new("safety_identifier", r#""safety_identifier":"someone""#),
    Probe::new("service_tier", r#""service_tier":"auto""#),
    Probe::new(
        "messages[system] between turns",
        r#""messages":[{"role":"user","content":"hi"},{"role":"system","content":"be brief"},
            {"role":"assistant","content":"yes"},{"role":"user","content":"go"}]"#,
    ),
    Probe::new(
        "messages[assistant] at the end",
        r#""messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"It is"}]"#,
    ),
    Probe::new(
        "messages[user].content[image_url]",
        r#""messages":[{"role":"user","content":[{"type":"image_url",
            "image_url":{"url":"data:image/png;base64,iVBORw0KGgo="}}]}]"#,
    ),
    Probe::new(
        "messages[user].content[file]",
        r#""messages":[{"role":"user","content":[{"type":"file",
            "file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,JVBERi0xLjQK"}}]}]"#,
    ),
];
