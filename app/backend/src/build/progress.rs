//! Parses the output of BuildKit's client with `--progress=rawjson`: JSON for each event (`SolveStatus` of BuildKit's
//! client) on standard error, and text if the build fails. Newer clients write one value a line; older ones spread a
//! value over many lines, of which the first and the last are its braces alone.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    contract::{BuildStep, BuildStepState, Milliseconds},
    registries, size,
};

/// Maximum length of the text after a failure.
const MOST_TEXT: usize = 64 << 10;

fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    #[serde(deserialize_with = "nullable")]
    vertexes: Vec<Vertex>,
    #[serde(deserialize_with = "nullable")]
    statuses: Vec<VertexStatus>,
    #[serde(deserialize_with = "nullable")]
    logs: Vec<VertexLog>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Vertex {
    digest: String,
    name: String,
    started: Option<String>,
    completed: Option<String>,
    cached: bool,
    error: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct VertexStatus {
    id: String,
    vertex: String,
    name: String,
    current: i64,
    total: i64,
    timestamp: Option<String>,
    completed: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct VertexLog {
    vertex: String,
    data: String,
}

/// The meaning of a line.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Told {
    /// A step is new or changed.
    Step(BuildStep),
    /// Output of a step.
    Output {
        /// Identifier of the step.
        id: String,
        /// The output as text; invalid UTF-8 is replaced.
        text: String,
    },
}

/// Why a build failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fault {
    /// BuildKit's message.
    pub(super) message: String,
    /// Line of the Dockerfile at fault, if any.
    pub(super) line: Option<u32>,
}

/// The state of a build as reported so far.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Steps, in the order BuildKit first named them.
    order: Vec<String>,
    steps: BTreeMap<String, (BuildStep, Option<i64>)>,
    /// A value whose last line has not arrived yet.
    open: String,
    text: String,
}

/// Converts BuildKit's time to milliseconds since 1970.
fn moment(text: Option<&str>) -> Option<i64> {
    let moment = OffsetDateTime::parse(text?, &Rfc3339).ok()?;
    i64::try_from(moment.unix_timestamp_nanos() / 1_000_000).ok()
}

fn span(from: Option<i64>, to: Option<i64>) -> Option<Milliseconds> {
    u64::try_from(to? - from?).ok().map(Milliseconds)
}

impl Progress {
    /// Parses a line.
    pub(super) fn take(&mut self, line: &str) -> Vec<Told> {
        if line == "{" || !self.open.is_empty() {
            self.open.push_str(line);
            if line != "}" {
                return Vec::new();
            }
            let value = std::mem::take(&mut self.open);
            return serde_json::from_str(&value).map(|status| self.tell(status)).unwrap_or_default();
        }
        let Some(status) = line.starts_with('{').then(|| serde_json::from_str::<Status>(line).ok()).flatten() else {
            if self.text.len() + line.len() < MOST_TEXT {
                self.text.push_str(line);
                self.text.push('\n');
            }
            return Vec::new();
        };
        self.tell(status)
    }

    fn tell(&mut self, status: Status) -> Vec<Told> {
        let mut told = Vec::new();
        for vertex in status.vertexes {
            if let Some(step) = self.vertex(vertex) {
                told.push(Told::Step(step));
            }
        }
        for status in status.statuses {
            if let Some(step) = self.status(&status) {
                told.push(Told::Step(step));
            }
        }
        for log in status.logs {
            let bytes = registries::base64_decode(&log.data).unwrap_or_default();
            told.push(Told::Output { id: log.vertex, text: String::from_utf8_lossy(&bytes).into_owned() });
        }
        told
    }

    fn vertex(&mut self, vertex: Vertex) -> Option<BuildStep> {
        if !self.steps.contains_key(&vertex.digest) {
            self.order.push(vertex.digest.clone());
        }
        let (step, began) = self.steps.entry(vertex.digest.clone()).or_insert_with(|| {
            let step = BuildStep {
                id: vertex.digest.clone(),
                // Differs from the value it gets below, so that a new step is always reported.
                name: String::new(),
                state: BuildStepState::Waiting,
                took: Milliseconds(0),
                progress: String::new(),
                error: None,
            };
            (step, None)
        });
        let before = step.clone();
        step.name = vertex.name;
        // A step that runs again (for another of its results) keeps its first start time.
        *began = began.or(moment(vertex.started.as_deref()));
        let completed = moment(vertex.completed.as_deref());
        if let Some(took) = span(*began, completed) {
            step.took = took;
        }
        step.state = if vertex.error.contains("context canceled") {
            BuildStepState::Canceled
        } else if !vertex.error.is_empty() {
            BuildStepState::Failed
        } else if vertex.cached {
            BuildStepState::Cached
        } else if completed.is_some() {
            BuildStepState::Done
        } else if began.is_some() {
            BuildStepState::Running
        } else {
            BuildStepState::Waiting
        };
        step.error = Some(vertex.error).filter(|error| !error.is_empty() && step.state == BuildStepState::Failed);
        (*step != before).then(|| step.clone())
    }

    fn status(&mut self, status: &VertexStatus) -> Option<BuildStep> {
        let (step, began) = self.steps.get_mut(&status.vertex)?;
        let before = step.clone();
        let current = u64::try_from(status.current).unwrap_or(0);
        let what = if status.name.is_empty() { &status.id } else { &status.name };
        // Layers are named by digests of 64 digits; a prefix identifies them.
        let what = match what.strip_prefix("sha256:") {
            Some(digest) => digest.get(..12).unwrap_or(digest),
            None => what.trim_end_matches(':'),
        };
        step.progress = match u64::try_from(status.total) {
            Ok(total) if total > 0 => format!("{what}: {} of {}", size::bytes(current), size::bytes(total)),
            _ if current > 0 => format!("{what}: {}", size::bytes(current)),
            _ if status.completed.is_some() => format!("{what}: done"),
            _ => what.to_owned(),
        };
        if step.state == BuildStepState::Running
            && let Some(took) = span(*began, moment(status.timestamp.as_deref()))
        {
            step.took = took;
        }
        (*step != before).then(|| step.clone())
    }

    /// All steps. Once the build is over, unfinished ones count as cancelled.
    pub(super) fn steps(&self, over: bool) -> Vec<BuildStep> {
        let step = |id: &String| {
            let mut step = self.steps.get(id)?.0.clone();
            if over && matches!(step.state, BuildStepState::Waiting | BuildStepState::Running) {
                step.state = BuildStepState::Canceled;
            }
            Some(step)
        };
        self.order.iter().filter_map(step).collect()
    }

    /// The failure, from the text after the steps.
    pub(super) fn fault(&self) -> Fault {
        let lines = || self.text.lines().map(str::trim_end).filter(|line| !line.is_empty());
        let error =
            lines().rfind(|line| line.starts_with("ERROR:")).or_else(|| lines().next_back()).unwrap_or_default();
        let message = error.trim_start_matches("ERROR:").trim();
        let message = message.strip_prefix("failed to solve: ").unwrap_or(message);
        // The location precedes the quoted lines: "Dockerfile:3", then dashes.
        let shown = lines().zip(lines().skip(1)).find_map(|(line, after)| {
            let number = line.rsplit_once(':')?.1.parse().ok()?;
            after.starts_with("-----").then_some(number)
        });
        let said = || {
            let digits = message.split_once(" on line ")?.1;
            digits.split(|sign: char| !sign.is_ascii_digit()).next()?.parse().ok()
        };
        let message = if message.is_empty() {
            "the build failed, and docker gave no reason".to_owned()
        } else {
            message.to_owned()
        };
        Fault { message, line: shown.or_else(said) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUILD: &str = concat!(
        r#"{"vertexes":[{"digest":"sha256:a","name":"[1/2] FROM test"},"#,
        r#"{"digest":"sha256:b","inputs":["sha256:a"],"name":"[2/2] RUN make"}],"statuses":null}"#,
        "\n",
        r#"{"vertexes":[{"digest":"sha256:a","name":"[1/2] FROM test","started":"2026-01-01T10:00:00Z","#,
        r#""completed":"2026-01-01T10:00:00.25Z","cached":true}]}"#,
        "\n",
        r#"{"vertexes":[{"digest":"sha256:b","name":"[2/2] RUN make","started":"2026-01-01T10:00:01.5Z"}]}"#,
        "\n",
        r#"{"statuses":[{"id":"transferring context:","vertex":"sha256:b","current":2100000,"#,
        r#""timestamp":"2026-01-01T10:00:02.5Z"}]}"#,
        "\n",
        r#"{"logs":[{"vertex":"sha256:b","stream":1,"data":"aGVsbG8K","timestamp":"2026-01-01T10:00:02Z"}]}"#,
        "\n",
        r#"{"vertexes":[{"digest":"sha256:b","name":"[2/2] RUN make","started":"2026-01-01T10:00:01.5Z","#,
        r#""completed":"2026-01-01T10:00:04Z","#,
        r#""error":"process \"/bin/sh -c make\" did not complete successfully: exit code: 2"}]}"#,
        "\n",
    );

    #[test]
    fn steps_are_told_as_they_change() {
        let mut progress = Progress::default();
        let told: Vec<Vec<Told>> = BUILD.lines().map(|line| progress.take(line)).collect();
        let step = |told: &Told| match told {
            Told::Step(step) => step.clone(),
            Told::Output { .. } => panic!("an output"),
        };
        assert_eq!(told[0].len(), 2);
        assert_eq!((step(&told[1][0]).state, step(&told[1][0]).took), (BuildStepState::Cached, Milliseconds(250)));
        assert_eq!(step(&told[2][0]).state, BuildStepState::Running);
        let transfer = step(&told[3][0]);
        assert_eq!((transfer.progress.as_str(), transfer.took), ("transferring context: 2.1 MB", Milliseconds(1000)));
        assert_eq!(told[4], [Told::Output { id: "sha256:b".to_owned(), text: "hello\n".to_owned() }]);
        let failed = step(&told[5][0]);
        assert_eq!((failed.state, failed.took), (BuildStepState::Failed, Milliseconds(2500)));
        assert!(failed.error.unwrap().ends_with("exit code: 2"));
        let names: Vec<_> = progress.steps(true).into_iter().map(|step| step.name).collect();
        assert_eq!(names, ["[1/2] FROM test", "[2/2] RUN make"]);
        // A line without changes yields nothing.
        assert_eq!(progress.take(BUILD.lines().next_back().unwrap()), []);
    }

    #[test]
    fn values_of_many_lines_are_read_too() {
        let told = |lines: &str| {
            let mut progress = Progress::default();
            lines.lines().flat_map(|line| progress.take(line)).collect::<Vec<_>>()
        };
        let many = BUILD.lines().map(|line| {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            serde_json::to_string_pretty(&value).unwrap()
        });
        let many: Vec<String> = many.collect();
        assert_eq!(told(&many.join("\n")), told(BUILD));
    }

    #[test]
    fn a_step_that_did_not_end_is_cancelled_with_its_build() {
        let mut progress = Progress::default();
        for line in BUILD.lines().take(3) {
            progress.take(line);
        }
        assert_eq!(progress.steps(false)[1].state, BuildStepState::Running);
        assert_eq!(progress.steps(true)[1].state, BuildStepState::Canceled);
    }

    #[test]
    fn the_failing_line_is_found() {
        let fault = |text: &str| {
            let mut progress = Progress::default();
            for line in text.lines() {
                progress.take(line);
            }
            progress.fault()
        };
        let shown = "Dockerfile:3\n--------------------\n\
            \x20  2 |     COPY . .\n\
            \x20  3 | >>> RUN make\n\
            --------------------\n\
            ERROR: failed to solve: process \"/bin/sh -c make\" did not complete successfully: exit code: 2\n";
        let message = "process \"/bin/sh -c make\" did not complete successfully: exit code: 2";
        assert_eq!(fault(shown), Fault { message: message.to_owned(), line: Some(3) });
        let parse = fault("ERROR: failed to solve: dockerfile parse error on line 12: unknown instruction: RUNN\n");
        assert_eq!(parse.line, Some(12));
        assert!(parse.message.starts_with("dockerfile parse error"));
        assert_eq!(fault("ERROR: no builder at 10.0.0.1:2375\n").line, None);
        assert!(fault("").message.contains("gave no reason"));
    }
}
