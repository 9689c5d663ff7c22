//! Progress of starting and stopping a machine: spinners on a terminal, plain lines elsewhere, JSON lines for programs.

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use rorqual_engine::api::Progress;
use serde_json::json;

use crate::{failure::Failure, session, session::Session, units, view::MachineView};

/// Interval at which a spinner turns and its clock advances.
const TICK: Duration = Duration::from_millis(120);

/// Shows steps as they arrive. Progress goes to standard error. JSON goes to standard output, since it is the command's
/// result.
#[derive(Debug)]
pub(crate) enum Display {
    Silent,
    Plain,
    Terminal(Terminal),
    Json,
}

/// Steps in progress, each a line with a spinner. Steps may overlap.
#[derive(Debug)]
pub(crate) struct Terminal {
    lines: MultiProgress,
    steps: Vec<(String, ProgressBar)>,
}

impl Display {
    pub(crate) fn new(session: &Session) -> Self {
        if session.json {
            Self::Json
        } else if session.quiet {
            Self::Silent
        } else if io::stderr().is_terminal() {
            Self::Terminal(Terminal { lines: MultiProgress::new(), steps: Vec::new() })
        } else {
            Self::Plain
        }
    }

    /// Shows one message of the daemon.
    pub(crate) fn show(&mut self, progress: &Progress) -> Result<(), Failure> {
        if progress.done.is_some() {
            return self.show_done(progress);
        }
        match self {
            Self::Silent => {}
            Self::Plain => {
                if let Some(line) = plain_line(progress) {
                    eprintln!("{line}");
                }
            }
            Self::Terminal(terminal) => terminal.show(progress),
            Self::Json => session::print_json(&json!({
                "step": progress.step,
                "message": progress.message,
                "took_ms": progress.took_ms,
            }))?,
        }
        Ok(())
    }

    fn show_done(&mut self, progress: &Progress) -> Result<(), Failure> {
        match (self, &progress.done) {
            (Self::Terminal(terminal), _) => terminal.end(),
            (Self::Json, Some(done)) => session::print_json(&json!({"done": {
                "total_ms": done.total_ms,
                "machine": done.machine.clone().map(MachineView::from),
            }}))?,
            _ => {}
        }
        Ok(())
    }

    /// Prints a message between the steps.
    pub(crate) fn say(&self, text: &str) {
        match self {
            Self::Silent | Self::Json => {}
            Self::Plain => eprintln!("{text}"),
            Self::Terminal(terminal) => {
                // If the terminal is gone, the command still continues.
                let _ = terminal.lines.println(text);
            }
        }
    }

    /// Ends the display after a failure: marks steps in progress as unfinished.
    pub(crate) fn fail(&mut self) {
        if let Self::Terminal(terminal) = self {
            terminal.fail();
        }
    }
}

/// The line of a completed step; `None` for one that starts.
fn plain_line(progress: &Progress) -> Option<String> {
    let took = progress.took_ms?;
    Some(format!("{:<11} {} ({})", progress.step, progress.message, units::milliseconds(took)))
}

impl Terminal {
    fn show(&mut self, progress: &Progress) {
        let known = self.steps.iter().position(|(step, _)| *step == progress.step);
        let index = known.unwrap_or_else(|| {
            let line = self.lines.add(ProgressBar::new_spinner());
            line.set_style(running_style());
            line.set_prefix(progress.step.clone());
            line.enable_steady_tick(TICK);
            self.steps.push((progress.step.clone(), line));
            self.steps.len() - 1
        });
        let line = &self.steps[index].1;
        if let Some(took) = progress.took_ms {
            line.set_style(ended_style());
            line.finish_with_message(format!("{}  {}", progress.message, units::milliseconds(took)));
            self.steps.remove(index);
        } else {
            line.set_message(progress.message.clone());
        }
    }

    fn end(&mut self) {
        for (_, line) in self.steps.drain(..) {
            line.finish_and_clear();
        }
    }

    fn fail(&mut self) {
        for (_, line) in self.steps.drain(..) {
            line.set_style(failed_style());
            line.abandon();
        }
    }
}

/// Parses a style from a constant template; falls back to the default spinner.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn running_style() -> ProgressStyle {
    style("  {spinner} {prefix:<11} {msg}  {elapsed}").tick_strings(&["⠋", "⠙", "⠸", "⠴", "⠦", "⠇", " "])
}

fn ended_style() -> ProgressStyle {
    style("  \u{2713} {prefix:<11} {msg}")
}

fn failed_style() -> ProgressStyle {
    style("  \u{2717} {prefix:<11} {msg}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_line_tells_step_and_time_once_the_step_is_over() {
        let mut progress =
            Progress { step: "kernel".to_owned(), message: "Linux 6.12".to_owned(), ..Progress::default() };
        assert_eq!(plain_line(&progress), None);
        progress.took_ms = Some(1_240);
        assert_eq!(plain_line(&progress).unwrap(), "kernel      Linux 6.12 (1.2 s)");
    }

    #[test]
    fn the_templates_are_right() {
        for template in ["  {spinner} {prefix:<11} {msg}  {elapsed}", "  \u{2713} {prefix:<11} {msg}"] {
            assert!(ProgressStyle::with_template(template).is_ok());
        }
    }
}
