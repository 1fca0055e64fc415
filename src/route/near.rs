//! "Did you mean": which known words are like a mistaken one.

/// Up to three of `known` that are like `word`, the likest first.
#[must_use]
pub fn near<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Vec<&'k str> {
    let wanted = word.to_lowercase();
    let mut found: Vec<(usize, &str)> = known
        .filter_map(|k| {
            let candidate = k.to_lowercase();
            let distance = distance(&wanted, &candidate);
            let tolerable = wanted.chars().count().max(3) / 3;
            let part =
                3 <= wanted.len() && (candidate.contains(&wanted) || wanted.contains(&candidate) && 3 <= k.len());
            (distance <= tolerable || part).then_some((distance, k))
        })
        .collect();
    found.sort();
    found.dedup();
    found.into_iter().take(3).map(|(_, k)| k).collect()
}

/// How many letters must be added, taken, changed, or swapped with their neighbour (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(LETTERS_MAX).collect();
    let b: Vec<char> = b.chars().take(LETTERS_MAX).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX / 2);
            let change = at(&last, j) + usize::from(x != y);
            let mut cost = change.min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            let swapped = 0 < i && 0 < j && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                cost = cost.min(at(&before, j - 1) + 1);
            }
            row.push(cost);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

/// Names are compared by so many letters at most: the work is their product, and the name is a stranger's.
const LETTERS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_slips_of_the_hand() {
        let known = ["openai", "openrouter", "anthropic", "gpt-5.2", "claude-sonnet-4-6"];
        for (word, expect) in [
            ("opneai", vec!["openai"]),
            ("gtp-5.2", vec!["gpt-5.2"]),
            ("Anthropic", vec!["anthropic"]),
            ("sonnet", vec!["claude-sonnet-4-6"]),
            ("zzz", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(near(word, known.into_iter()), expect, "{word}");
        }
    }
}
