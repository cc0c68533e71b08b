//! Decides how long lists are cut into pages, and how a short id finds what it means.

use miren_api::resource::Page;
use miren_api::{ApiError, ErrorCode};
use serde::Deserialize;
use utoipa::IntoParams;

/// Items of a page unless fewer are asked for.
const PAGE: usize = 500;
/// Candidates that an ambiguous id names.
const SHOWN: usize = 5;

/// Where a page starts and how long it is.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Paging {
    /// `next` of the page before.
    pub after: Option<String>,
    /// At most this many items; 500 when absent or larger.
    pub limit: Option<usize>,
}

/// One page of `items`, which are sorted by `key`.
pub fn page<T>(items: Vec<T>, key: impl Fn(&T) -> String, paging: &Paging) -> Page<T> {
    let limit = paging.limit.unwrap_or(PAGE).clamp(1, PAGE);
    let after = paging.after.as_deref();
    let mut items: Vec<T> = items
        .into_iter()
        .filter(|item| after.is_none_or(|after| key(item).as_str() > after))
        .take(limit + 1)
        .collect();
    let next = (items.len() > limit).then(|| {
        items.truncate(limit);
        items.last().map(&key)
    });
    Page {
        items,
        next: next.flatten(),
    }
}

/// The one item whose id is `given` or begins with it.
pub fn by_prefix<T>(items: Vec<T>, id: impl Fn(&T) -> &str, what: &str, given: &str) -> Result<T, ApiError> {
    let mut found: Vec<T> = items.into_iter().filter(|item| id(item).starts_with(given)).collect();
    if let Some(exact) = found.iter().position(|item| id(item) == given) {
        return Ok(found.swap_remove(exact));
    }
    match found.len() {
        0 => Err(super::refusal::not_found(what, given)),
        1 => Ok(found.swap_remove(0)),
        count => {
            let shown: Vec<&str> = found.iter().take(SHOWN).map(&id).collect();
            let message = format!("{given:?} fits {count} ids: {}", shown.join(", "));
            Err(ApiError::new(ErrorCode::Ambiguous, message).remedy("give more of the id"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_without_gap_or_overlap() {
        let all: Vec<u32> = (100..107).collect();
        let mut seen = Vec::new();
        let mut paging = Paging {
            after: None,
            limit: Some(3),
        };
        loop {
            let mut one = page(all.clone(), u32::to_string, &paging);
            seen.append(&mut one.items);
            match one.next {
                Some(next) => paging.after = Some(next),
                None => break,
            }
        }
        assert_eq!(seen, all);
    }

    #[test]
    fn a_prefix_must_fit_one_id_unless_it_is_one() {
        let ids = || vec!["sb-1", "sb-12", "sb-3"];
        let find = |given| by_prefix(ids(), |id| id, "sandbox", given);
        assert_eq!(find("sb-3").unwrap(), "sb-3");
        assert_eq!(find("sb-12").unwrap(), "sb-12");
        assert_eq!(find("sb-1").unwrap(), "sb-1");
        assert_eq!(find("sb").unwrap_err().code, ErrorCode::Ambiguous);
        assert_eq!(find("sb-4").unwrap_err().code, ErrorCode::NotFound);
    }
}
