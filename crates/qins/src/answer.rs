//! The text of an answer, as it is generated.

use std::ops::ControlFlow;

use qins_model::{Error, TextStream};

use crate::stop_strings::StopStrings;

/// Decodes the tokens of an answer, up to the first stop string.
pub(crate) struct Answer<'a> {
    stream: TextStream<'a>,
    stops: StopStrings<'a>,
    /// All that was given out.
    pub(crate) text: String,
    pub(crate) is_stopped: bool,
}

impl<'a> Answer<'a> {
    pub(crate) fn new(stream: TextStream<'a>, stop: &'a [String]) -> Self {
        Self { stream, stops: StopStrings::new(stop), text: String::new(), is_stopped: false }
    }

    /// The text that a token adds; a stop string sets `is_stopped`.
    ///
    /// # Errors
    /// When the tokenizer's decoder fails.
    pub(crate) fn push(&mut self, id: u32) -> Result<String, Error> {
        let piece = self.stream.push(id)?;
        let pushed = self.stops.push(&piece);
        self.is_stopped = pushed.is_break();
        let (ControlFlow::Continue(certain) | ControlFlow::Break(certain)) = pushed;
        self.text += &certain;
        Ok(certain)
    }

    /// The text that was held back, once there is no other token; the whole text; and whether a stop string ended it.
    pub(crate) fn finish(self) -> (String, String, bool) {
        let Self { stream, mut stops, text, is_stopped } = self;
        if is_stopped {
            return (String::new(), text, true);
        }
        let (rest, is_stopped) = match stops.push(&stream.finish()) {
            ControlFlow::Continue(certain) => (certain + &stops.finish(), false),
            ControlFlow::Break(certain) => (certain, true),
        };
        let text = text + &rest;
        (rest, text, is_stopped)
    }
}
