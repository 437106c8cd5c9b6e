//! Replies as BIRD writes them: each line begins with a four-digit code, `-` behind it when more lines follow and a
//! space on the last; a line with the code of the one before begins with one space instead.

/// A reply, or what of it is not sent yet.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    text: String,
    last: Option<u16>,
}

impl Reply {
    /// A line that more follow.
    pub(crate) fn line(&mut self, code: u16, text: &str) {
        if self.last.replace(code) == Some(code) {
            self.text.push(' ');
        } else {
            self.text.push_str(&format!("{code:04}-"));
        }
        self.push(text);
    }

    /// The last line.
    pub(crate) fn end(&mut self, code: u16, text: &str) {
        self.text.push_str(&format!("{code:04} "));
        self.push(text);
        self.last = None;
    }

    /// A reply of one line.
    pub(crate) fn of(code: u16, text: &str) -> Self {
        let mut reply = Reply::default();
        reply.end(code, text);
        reply
    }

    /// Whatever is in the text, it stays one line.
    fn push(&mut self, text: &str) {
        let printable = |c: char| if c.is_control() && c != '\t' { ' ' } else { c };
        self.text.extend(text.chars().map(printable));
        self.text.push('\n');
    }

    /// What is there to be sent; the reply goes on behind it.
    pub(crate) fn take(&mut self) -> String {
        std::mem::take(&mut self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_one_line() {
        let mut reply = Reply::of(8002, "x.conf:1:1 bad\n0000 injected\u{1b}");
        assert_eq!(reply.take(), "8002 x.conf:1:1 bad 0000 injected \n");
    }

    #[test]
    fn a_code_is_said_once_also_over_pages() {
        let mut reply = Reply::default();
        reply.line(1007, "Table master4:");
        let first = reply.take();
        reply.line(1007, "10.0.0.0/8");
        reply.line(1008, "\tType: static univ");
        reply.end(0, "");
        assert_eq!(
            first + &reply.take(),
            "1007-Table master4:\n 10.0.0.0/8\n1008-\tType: static univ\n0000 \n"
        );
    }
}
