//! A cursor over bytes that cannot read past their end. Placeholder until `wire` needs more.
