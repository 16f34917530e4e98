//! The watermark of one source: how far all sinks have taken everything. Pure.
//!
//! Batches are numbered in the order in which they were read. A batch is final for a sink when each of its events is
//! delivered, known there already, or in quarantine. The watermark moves over the longest run of batches from the
//! front that are final for every sink, so that a later success never hides an earlier failure.

use std::collections::VecDeque;

pub struct Watermark<P, M> {
    lanes: usize,
    first: u64,
    pending: VecDeque<Pending<P, M>>,
}

struct Pending<P, M> {
    progress: P,
    marks: Vec<Option<M>>,
}

impl<P, M> Watermark<P, M> {
    /// For a source whose batches all go to `lanes` sinks.
    pub fn new(lanes: usize) -> Self {
        Watermark {
            lanes,
            first: 0,
            pending: VecDeque::new(),
        }
    }

    /// The next batch is on its way; `progress` holds once it is final. Returns its number.
    pub fn sent(&mut self, progress: P) -> u64 {
        self.pending.push_back(Pending {
            progress,
            marks: (0..self.lanes).map(|_| None).collect(),
        });
        self.first + self.pending.len() as u64 - 1
    }

    /// The sink `lane` has a final outcome for each event of the batch `number`. Unknown numbers and repeats change nothing.
    pub fn done(&mut self, lane: usize, number: u64, mark: M) {
        let at = number
            .checked_sub(self.first)
            .and_then(|at| self.pending.get_mut(at as usize));
        if let Some(slot) = at.and_then(|pending| pending.marks.get_mut(lane)) {
            *slot = Some(mark);
        }
    }

    /// Takes what has become final since: each batch's progress and marks, in order.
    pub fn advance(&mut self) -> Vec<(P, Vec<M>)> {
        let mut out = Vec::new();
        while self
            .pending
            .front()
            .is_some_and(|front| front.marks.iter().all(Option::is_some))
        {
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
        /// Against a naive model: whatever the order of answers, nothing passes that is not final everywhere.
        #[test]
        fn f22_watermark_model(lanes in 1usize..4, steps in prop::collection::vec((0usize..5, 0u64..40), 1..200)) {
            let mut watermark = Watermark::new(lanes);
            let mut taken: Vec<Vec<bool>> = Vec::new();
            let mut passed = 0usize;
            for (what, number) in steps {
                if what == 0 {
                    prop_assert_eq!(watermark.sent(taken.len()), taken.len() as u64);
                    taken.push(vec![false; lanes]);
                } else {
                    let lane = what - 1;
                    watermark.done(lane, number, (lane, number));
                    if let Some(slot) = taken.get_mut(number as usize).and_then(|t| t.get_mut(lane)) {
                        *slot = true;
                    }
                }
                for (progress, marks) in watermark.advance() {
                    prop_assert_eq!(progress, passed);
                    prop_assert_eq!(marks, (0..lanes).map(|lane| (lane, progress as u64)).collect::<Vec<_>>());
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
        watermark.sent(7);
        assert_eq!(watermark.advance(), [(7, vec![])]);
    }
}
