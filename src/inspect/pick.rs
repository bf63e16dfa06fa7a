//! Finding a match by what a person types.

use rekindle_schema::MatchId;

/// Of several matches that a prefix fits, so many are named.
const NAMED: usize = 8;

/// Why a prefix names no match.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PickError {
    /// No id begins with it.
    #[error(
        "RK-CLI-010: no match begins with `{0}`; `rekindle match ls` lists those of a running \
         node, `rekindle verify` those of a directory"
    )]
    None(String),
    /// Nothing was typed.
    #[error("RK-CLI-234: a match is named by the first digits of its id, and none were given")]
    Empty,
    /// Several do.
    #[error("RK-CLI-011: `{prefix}` fits several matches: {fits}; type more digits")]
    Several {
        /// What was typed.
        prefix: String,
        /// The ids, space separated.
        fits: String,
    },
}

/// The one match whose id begins with `prefix` (upper or lower case).
pub fn pick(prefix: &str, ids: impl IntoIterator<Item = MatchId>) -> Result<MatchId, PickError> {
    if prefix.is_empty() {
        return Err(PickError::Empty);
    }
    let wanted = prefix.to_ascii_lowercase();
    let fits: Vec<MatchId> =
        ids.into_iter().filter(|id| id.to_string().starts_with(&wanted)).collect();
    match fits[..] {
        [one] => Ok(one),
        [] => Err(PickError::None(prefix.to_owned())),
        _ => {
            let more = fits.len().saturating_sub(NAMED);
            let named = fits.iter().take(NAMED).map(MatchId::to_string);
            let mut fits = named.collect::<Vec<_>>().join(" ");
            if more > 0 {
                fits = format!("{fits} and {more} more");
            }
            Err(PickError::Several { prefix: prefix.to_owned(), fits })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_names_one_match_or_says_why_not() {
        let ids = [MatchId(0x7f3a_0000_0000_0001), MatchId(0x7f3b_0000_0000_0001), MatchId(1)];
        assert_eq!(pick("7F3a", ids), Ok(ids[0]));
        assert_eq!(pick("0", ids), Ok(ids[2]));
        assert!(matches!(pick("7f3", ids), Err(PickError::Several { .. })));
        assert!(matches!(pick("8", ids), Err(PickError::None(_))));
        assert_eq!(pick("", ids), Err(PickError::Empty));
        let many = pick("0", (0..20).map(MatchId)).unwrap_err().to_string();
        assert!(many.contains("0000000000000007 and 12 more; type more digits"), "{many}");
    }
}
