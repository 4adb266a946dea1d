//! The verbs of a rule line, in the order in which a line is tried against them, and their rank in application.

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// The capture URL may be plain `http:`.
    AllowHttpUrl,
    /// Copies cookies whose name matches.
    CopySessionField,
    /// Removes a detail.
    Remove,
    /// Removes a detail whose value matches.
    RemoveIf,
    /// Removes a detail whose value contains.
    RemoveIfFound,
    /// Removes a detail whose value does not match.
    RemoveUnless,
    /// Removes a detail whose value does not contain.
    RemoveUnlessFound,
    /// Replaces what is found in a value.
    Replace,
    /// Keeps a percentage of the calls.
    Sample,
    /// Bundles are not compressed.
    SkipCompression,
    /// Nothing is sent.
    SkipSubmission,
    /// Drops the call.
    Stop,
    /// Drops the call if a value matches.
    StopIf,
    /// Drops the call if a value contains.
    StopIfFound,
    /// Drops the call unless as many values match as there are such rules.
    StopUnless,
    /// Drops the call unless as many values contain as there are such rules.
    StopUnlessFound,
}

/// What follows or precedes a verb on its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Nothing.
    Flag,
    /// `VERB EXPR`.
    Session,
    /// `EXPR VERB`.
    One,
    /// `EXPR VERB EXPR`.
    Two,
    /// `EXPR VERB EXPR, EXPR0`.
    Replace,
    /// `VERB digits`.
    Sample,
}

impl Verb {
    /// Every verb, in the order in which a line is tried (`docs/contract.md`, section 4.2).
    pub const ALL: [Self; 16] = [
        Self::AllowHttpUrl,
        Self::CopySessionField,
        Self::Remove,
        Self::RemoveIf,
        Self::RemoveIfFound,
        Self::RemoveUnless,
        Self::RemoveUnlessFound,
        Self::Replace,
        Self::Sample,
        Self::SkipCompression,
        Self::SkipSubmission,
        Self::Stop,
        Self::StopIf,
        Self::StopIfFound,
        Self::StopUnless,
        Self::StopUnlessFound,
    ];

    /// Whether a value that does not match is what it acts on.
    #[inline]
    pub(super) const fn acts_without_match(self) -> bool {
        matches!(self, Self::RemoveUnless | Self::RemoveUnlessFound)
    }

    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AllowHttpUrl => "allow_http_url",
            Self::CopySessionField => "copy_session_field",
            Self::Remove => "remove",
            Self::RemoveIf => "remove_if",
            Self::RemoveIfFound => "remove_if_found",
            Self::RemoveUnless => "remove_unless",
            Self::RemoveUnlessFound => "remove_unless_found",
            Self::Replace => "replace",
            Self::Sample => "sample",
            Self::SkipCompression => "skip_compression",
            Self::SkipSubmission => "skip_submission",
            Self::Stop => "stop",
            Self::StopIf => "stop_if",
            Self::StopIfFound => "stop_if_found",
            Self::StopUnless => "stop_unless",
            Self::StopUnlessFound => "stop_unless_found",
        }
    }

    pub(super) const fn form(self) -> Form {
        match self {
            Self::AllowHttpUrl | Self::SkipCompression | Self::SkipSubmission => Form::Flag,
            Self::CopySessionField => Form::Session,
            Self::Remove | Self::Stop => Form::One,
            Self::Replace => Form::Replace,
            Self::Sample => Form::Sample,
            _ => Form::Two,
        }
    }

    /// Whether the parameter is a find pattern rather than a match pattern.
    pub(super) const fn finds(self) -> bool {
        matches!(
            self,
            Self::RemoveIfFound
                | Self::RemoveUnlessFound
                | Self::StopIfFound
                | Self::StopUnlessFound
                | Self::Replace
        )
    }

    /// Whether it hides details of a call, rather than drops the call.
    pub const fn is_mask(self) -> bool {
        matches!(self.rank(), 5..=10)
    }

    /// Place in the order of application (`docs/contract.md`, section 4.4); equal for verbs that touch no detail.
    pub(super) const fn rank(self) -> u8 {
        match self {
            Self::Stop => 0,
            Self::StopIfFound => 1,
            Self::StopIf => 2,
            Self::StopUnlessFound => 3,
            Self::StopUnless => 4,
            Self::Remove => 5,
            Self::RemoveUnlessFound => 6,
            Self::RemoveIfFound => 7,
            Self::RemoveUnless => 8,
            Self::RemoveIf => 9,
            Self::Replace => 10,
            _ => 11,
        }
    }
}
