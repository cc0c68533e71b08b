//! Decides how wide each column is where a terminal is too narrow for all of them: prose is cut, then columns are left out, ids stay whole.

/// Prose that is cut keeps this much at least, and its header.
const LEAST: usize = 12;

/// What a column would take, and how it gives way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// Of its widest cell, in columns of a terminal.
    pub width: usize,
    pub header: usize,
    /// Rank among those that are cut.
    pub cut: Option<usize>,
    /// Rank among those that are left out.
    pub leaves: Option<usize>,
}

/// The width of each column, none for one that is left out. Wider than `total` only if what may not give way is.
pub(super) fn within(wanted: &[Wanted], total: usize, gap: usize) -> Vec<Option<usize>> {
    let ranks = wanted.iter().filter_map(|column| column.leaves).max();
    let mut best = Vec::new();
    for gone in 0..=ranks.map_or(0, |most| most + 1) {
        let stays = |column: &Wanted| column.leaves.is_none_or(|rank| rank >= gone);
        let mut widths: Vec<Option<usize>> = wanted
            .iter()
            .map(|column| stays(column).then_some(column.width))
            .collect();
        cut(wanted, &mut widths, total, gap);
        let fits = taken(&widths, gap) <= total;
        best = widths;
        if fits {
            break;
        }
    }
    best
}

fn taken(widths: &[Option<usize>], gap: usize) -> usize {
    let there = widths.iter().flatten();
    there.clone().sum::<usize>() + gap * there.count().saturating_sub(1)
}

/// Takes from the columns of prose what is too much, one after the other.
fn cut(wanted: &[Wanted], widths: &mut [Option<usize>], total: usize, gap: usize) {
    let mut prose: Vec<usize> = (0..wanted.len()).filter(|index| wanted[*index].cut.is_some()).collect();
    prose.sort_by_key(|index| wanted[*index].cut);
    for index in prose {
        let over = taken(widths, gap).saturating_sub(total);
        if let Some(width) = &mut widths[index] {
            let least = wanted[index].header.max(LEAST).min(*width);
            *width = width.saturating_sub(over).max(least);
        }
    }
}
