//! Reductions whose bits depend on the chunks alone: a fixed binary tree over the chunk index.
//!
//! Leaves are the chunks' values in chunk order; each level combines neighbours, an odd last one moves up as it is. Which
//! worker computed a value, when, and in which attempt, has no influence.

/// Combines `values` in the fixed tree; `identity` if there are none.
pub(crate) fn tree<R>(mut values: Vec<R>, identity: R, mut op: impl FnMut(R, R) -> R) -> R {
    while values.len() > 1 {
        let mut next = Vec::with_capacity(values.len().div_ceil(2));
        let mut pairs = values.into_iter();
        while let Some(left) = pairs.next() {
            next.push(match pairs.next() {
                Some(right) => op(left, right),
                None => left,
            });
        }
        values = next;
    }
    values.pop().unwrap_or(identity)
}

#[cfg(test)]
mod tests {
    use super::tree;

    #[test]
    fn the_shape_of_the_tree_is_fixed() {
        let shape = |n: usize| {
            let leaves = (0..n).map(|i| i.to_string()).collect();
            tree(leaves, "-".to_owned(), |a, b| format!("({a} {b})"))
        };
        assert_eq!(shape(0), "-");
        assert_eq!(shape(1), "0");
        assert_eq!(shape(5), "(((0 1) (2 3)) 4)");
    }
}
