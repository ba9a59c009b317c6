//! Progress: stages nest, and end when the work fails.

use std::sync::Mutex;

use qins_eval::{Error, Progress, plain_controls, report::Role};
use qins_quant::Scheme;

use super::{
    Run, encoded,
    toy::{Fault, random_source},
};

/// What a [`Progress`] receives; `Begin` has the number of steps.
#[derive(Clone, Debug, PartialEq)]
enum Event {
    Begin(usize),
    Step,
    End,
}

#[derive(Default)]
struct Recorder(Mutex<Vec<Event>>);

impl Recorder {
    fn push(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

impl Progress for Recorder {
    fn begin(&self, _: &str, steps: usize) {
        self.push(Event::Begin(steps));
    }

    fn step(&self) {
        self.push(Event::Step);
    }

    fn end(&self) {
        self.push(Event::End);
    }

    fn note(&self, _: &str) {}
}

/// Whether every stage ends, none takes more steps than it announced, and no step is outside a stage.
fn is_nested(events: &[Event]) -> bool {
    let mut open: Vec<usize> = Vec::new();
    for event in events {
        match (event, open.last_mut()) {
            (Event::Begin(steps), _) => open.push(*steps),
            (Event::Step, Some(left)) if *left > 0 => *left -= 1,
            (Event::End, Some(_)) => drop(open.pop()),
            (Event::Step | Event::End, _) => return false,
        }
    }
    open.is_empty()
}

#[test]
fn progress_stages_nest_and_end_on_errors() {
    let source = random_source(1);
    let record = |fault| {
        let recorder = Recorder::default();
        let run = Run { progress: &recorder, ..Run::faulty(&source, fault) };
        let result = run.compare(plain_controls(), vec![encoded(Role::Judged, Scheme::Q8)]);
        (result, recorder.0.into_inner().unwrap())
    };
    let (report, events) = record(Fault::None);
    assert!(report.is_ok() && is_nested(&events) && events.len() > 50, "{events:?}");
    // Five passages per stage: the third call of `score` is amid the baseline's.
    let (report, failed) = record(Fault::ScoreFails(2));
    assert!(matches!(report, Err(Error::Model(_))) && is_nested(&failed), "{failed:?}");
    assert!(failed.len() < events.len() && failed.last() == Some(&Event::End));
    // The check itself detects a stage that does not end, a step too many and an end too many.
    assert!(!is_nested(&failed[..failed.len() - 1]));
    assert!(!is_nested(&[&failed[..], &[Event::Step]].concat()) && !is_nested(&[&failed[..], &[Event::End]].concat()));
}
