//! Decides how the proxies that use one sandbox share its capacity: what each needs first, what is left in equal parts.

/// What one proxy asks of a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Requests in flight and waiting.
    pub need: u32,
    /// It follows control. One that does not may be gone: it keeps only what nobody else needs.
    pub present: bool,
}

/// Parts of `capacity`, one for each claim; they sum up to it unless there is no claim.
///
/// Max-min fair: nobody gets more than an equal part while another needs more than it has. Everybody present gets at
/// least 1 as long as that goes round; when it does not, those with something to send come first. `turn` says who of
/// several alike is preferred.
pub fn divide(capacity: u32, claims: &[Claim], turn: u64) -> Vec<u32> {
    let mut parts = vec![0; claims.len()];
    let is_short = (capacity as usize) < claims.len();
    let most = if is_short { capacity.min(1) } else { capacity };
    let wanted = |claim: &Claim| match claim.present {
        true => claim.need.clamp(most.min(1), most),
        false => 0,
    };
    let rank = |at: usize| (at as u64 + turn) % claims.len() as u64;
    let mut order: Vec<usize> = (0..claims.len()).collect();
    // Who comes later gets what does not go round.
    order.sort_by_key(|at| (wanted(&claims[*at]), claims[*at].need > 0, rank(*at)));
    let mut left = capacity;
    for (done, at) in order.iter().enumerate() {
        let equal = left / count(claims.len() - done);
        parts[*at] = wanted(&claims[*at]).min(equal);
        left -= parts[*at];
    }
    for (done, at) in order.iter().enumerate() {
        let equal = left / count(claims.len() - done);
        parts[*at] += equal;
        left -= equal;
    }
    parts
}

fn count(claims: usize) -> u32 {
    u32::try_from(claims).unwrap_or(u32::MAX)
}
