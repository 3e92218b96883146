//! How texts become what a tower was trained on, and which of their tokens counts.

/// How a text becomes what a tower was trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rules {
    /// A start and an end around pairs of bytes; what follows the first end changes nothing.
    Clip,
    /// As many tokens as the tower has places, filled up with the pad; the last one counts. Its first version has pieces of a
    /// Unigram model and plain words, SigLIP 2 has Gemma's pairs and lower case.
    SigLip,
    /// As the settings of OpenCLIP say, with a tokenizer of another home: around the text is what it puts there, and where the
    /// last token counts it is filled up as [`Rules::SigLip`] says.
    Other(Clean),
}

/// What is done to a text before its tokenizer sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clean {
    Nothing,
    /// Letter by letter.
    Lower,
    /// Single spaces: as OpenCLIP.
    Spaces,
    /// The same in lower case.
    SpacesLower,
    /// Lower case, no ASCII punctuation, single spaces: as transformers' tokenizer of SigLIP.
    Plain,
    /// No ASCII punctuation but a space for each underscore, single spaces, lower case: as OpenCLIP.
    PlainWords,
}

impl Clean {
    pub fn apply(self, text: &str) -> String {
        let single = |text: &str| text.split(space).filter(|w| !w.is_empty()).collect::<Vec<_>>().join(" ");
        let plain = |text: &str| single(&text.chars().filter(|c| !c.is_ascii_punctuation()).collect::<String>());
        match self {
            Clean::Nothing => text.to_string(),
            Clean::Lower => text.chars().flat_map(char::to_lowercase).collect(),
            Clean::Spaces => single(text),
            Clean::SpacesLower => single(text).to_lowercase(),
            Clean::Plain => plain(&text.to_lowercase()),
            Clean::PlainWords => plain(&text.replace('_', " ")).to_lowercase(),
        }
    }
}

/// Python's: four separators of ASCII count too.
fn space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// The token whose value is the prompt's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The first of the largest number.
    Largest,
    /// The first of this number.
    Token(usize),
    /// The last one, whatever it is.
    Last,
}

impl End {
    pub fn of(self, prompt: &[u32]) -> Option<usize> {
        match self {
            End::Largest => prompt.iter().enumerate().max_by_key(|(i, t)| (**t, std::cmp::Reverse(*i))).map(|(i, _)| i),
            End::Token(eos) => prompt.iter().position(|t| *t as usize == eos),
            End::Last => prompt.len().checked_sub(1),
        }
    }
}
