//! Finds the combination of hashes that leads to a given one, where several places have more than one candidate.

/// The most combinations that are tried.
const MOST: usize = 4096;

/// Chooses one candidate for each place, so that `leads` is true of the choice. `candidates` are how many each place has. The
/// first choices are those that take the same number at every place.
pub(super) fn choose(
    candidates: &[usize],
    most: usize,
    mut leads: impl FnMut(&[usize]) -> bool,
) -> Option<Vec<usize>> {
    if candidates.contains(&0) {
        return None;
    }
    let most = most.min(MOST);
    let greatest = candidates.iter().max().copied().unwrap_or(1);
    for number in 0..greatest {
        let choice: Vec<usize> = candidates.iter().map(|has| number.min(has - 1)).collect();
        if leads(&choice) {
            return Some(choice);
        }
    }
    // Then all combinations, like the digits of a number: first those that differ from the first choice at few places.
    let mut choice = vec![0; candidates.len()];
    for _ in 0..most {
        let mut carried = true;
        for (digit, has) in choice.iter_mut().zip(candidates) {
            *digit += 1;
            carried = *digit == *has;
            if !carried {
                break;
            }
            *digit = 0;
        }
        if carried {
            return None;
        }
        if leads(&choice) {
            return Some(choice);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_combination_is_found_if_there_is_one_and_the_search_ends_if_not() {
        let candidates = [1, 2, 1, 3, 2];
        for wanted in [[0, 0, 0, 0, 0], [0, 1, 0, 2, 1], [0, 0, 0, 2, 1], [0, 1, 0, 0, 0]] {
            assert_eq!(choose(&candidates, MOST, |choice| choice == wanted), Some(wanted.to_vec()));
        }
        assert_eq!(choose(&candidates, MOST, |_| false), None);
        assert_eq!(choose(&[2; 64], MOST, |_| false), None);
        assert_eq!(choose(&[1, 0], MOST, |_| true), None);
        assert_eq!(choose(&[], MOST, |_| true), Some(Vec::new()));
    }
}
