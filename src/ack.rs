//! The watermark of one source: up to which batch every sink has a final outcome. Pure.
//!
//! Batches are numbered in the order in which they were read. A batch is final for a sink when each of its events is
//! delivered, already known there, or in quarantine. The watermark advances over consecutive batches that are final
//! for every sink. A later success therefore never hides an earlier failure.

use std::collections::VecDeque;

pub(crate) struct Watermark<P, M> {
    sinks: usize,
    first: u64,
    pending: VecDeque<Pending<P, M>>,
}

struct Pending<P, M> {
    progress: P,
    marks: Vec<Option<M>>,
}

impl<P, M> Watermark<P, M> {
    /// For a source whose batches go to `sinks` sinks.
    pub(crate) fn new(sinks: usize) -> Self {
        Watermark { sinks, first: 0, pending: VecDeque::new() }
    }

    /// Registers the next batch. `progress` becomes valid once it is final. Returns its number.
    pub(crate) fn push(&mut self, progress: P) -> u64 {
        self.pending.push_back(Pending { progress, marks: (0..self.sinks).map(|_| None).collect() });
        self.first + self.pending.len() as u64 - 1
    }

    /// Records that the sink has a final outcome for each event of batch `number`. Unknown numbers and repeats are
    /// ignored.
    pub(crate) fn mark_final(&mut self, sink: usize, number: u64, mark: M) {
        let at = number.checked_sub(self.first).and_then(|at| self.pending.get_mut(at as usize));
        if let Some(slot) = at.and_then(|pending| pending.marks.get_mut(sink)) {
            *slot = Some(mark);
        }
    }

    /// Removes the batches that became final since the last call. Returns the progress and marks of each, in order.
    pub(crate) fn advance(&mut self) -> Vec<(P, Vec<M>)> {
        let mut out = Vec::new();
        while self.pending.front().is_some_and(|front| front.marks.iter().all(Option::is_some)) {
            if let Some(front) = self.pending.pop_front() {
                self.first += 1;
                out.push((front.progress, front.marks.into_iter().flatten().collect()));
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Compares with a naive model, with outcomes in any order.
        #[test]
        fn f22_watermark_model(sinks in 1usize..4, steps in prop::collection::vec((0usize..5, 0u64..40), 1..200)) {
            let mut watermark = Watermark::new(sinks);
            let mut taken: Vec<Vec<bool>> = Vec::new();
            let mut passed = 0usize;
            for (what, number) in steps {
                if what == 0 {
                    prop_assert_eq!(watermark.push(taken.len()), taken.len() as u64);
                    taken.push(vec![false; sinks]);
                } else {
                    let sink = what - 1;
                    watermark.mark_final(sink, number, (sink, number));
                    if let Some(slot) = taken.get_mut(number as usize).and_then(|t| t.get_mut(sink)) {
                        *slot = true;
                    }
                }
                for (progress, marks) in watermark.advance() {
                    prop_assert_eq!(progress, passed);
                    prop_assert_eq!(marks, (0..sinks).map(|sink| (sink, progress as u64)).collect::<Vec<_>>());
                    passed += 1;
                }
                let expect = taken.iter().take_while(|t| t.iter().all(|&done| done)).count();
                prop_assert_eq!(passed, expect);
                prop_assert_eq!(watermark.pending.len(), taken.len() - passed);
            }
        }
    }

    #[test]
    fn without_sinks_everything_is_final_at_once() {
        let mut watermark: Watermark<u8, ()> = Watermark::new(0);
        watermark.push(7);
        assert_eq!(watermark.advance(), [(7, vec![])]);
    }
}
