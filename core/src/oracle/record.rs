//! What the oracle knows of one sample: its books, its pending success, its confirmed and its strongest point.

use crate::{Cost, Drawn, Norm, Place, Pred, Region, Stop, ThreatModel};

/// A legal point and the margin that search saw there.
#[derive(Debug, Clone)]
pub(super) struct Point {
    pub x: Vec<f32>,
    pub margin: f64,
    /// Which of the runs that go abreast led there.
    pub run: u32,
}

/// A point the judge confirmed.
#[derive(Debug, Clone)]
pub struct Confirmed {
    pub x: Vec<f32>,
    pub pred: Pred,
    /// The margin is within rounding of zero, see [`crate::fragile`].
    pub fragile: bool,
    /// Under the threat's norm; `None` for unbounded threats.
    pub distance: Option<f64>,
    pub votes: (u32, u32),
    /// Of a random model: where its votes were drawn.
    pub drawn: Option<Drawn>,
    pub(super) run: u32,
}

#[derive(Debug, Clone)]
pub(super) struct Record {
    pub id: u64,
    pub clean: Vec<f32>,
    pub cost: Cost,
    /// A success that search saw and the judge has not.
    pub candidate: Option<Point>,
    pub found: Option<Confirmed>,
    /// Search forwards spent when the first success was confirmed.
    pub queries: Option<u64>,
    /// Which stage that was; empty outside stages.
    pub stage: Option<String>,
    /// The legal point of lowest margin so far, successes that were not confirmed included.
    pub strongest: Option<Point>,
    /// Whether a stage looked for the nearest success, and the nearest that search saw outside the ball.
    pub sought: bool,
    pub near: Option<(f64, Point)>,
    /// A legal point gave scores that are not numbers.
    pub broken: bool,
    /// How far the nearest illegal point lay outside, as long as none was legal; what was moved.
    pub place: Option<Place>,
    /// What the attack has to say of its point.
    pub remark: Option<String>,
}

impl Record {
    pub fn new(id: u64, clean: Vec<f32>) -> Self {
        let cost = Cost::default();
        let (candidate, found, strongest) = (None, None, None);
        let (queries, stage, near, place, remark) = (None, None, None, None, None);
        let (sought, broken) = (false, false);
        Self { id, clean, cost, candidate, found, queries, stage, strongest, sought, near, broken, place, remark }
    }

    /// Books nothing; judges an asked point by what search saw there (`None`: scores that are not finite).
    pub fn note(
        &mut self,
        threat: &ThreatModel,
        stop: Stop,
        reached: bool,
        seen: Option<Pred>,
        (x, run): (&[f32], u32),
    ) {
        let Some(seen) = seen else {
            match threat.admits(&self.clean, x) {
                true => self.broken = true,
                false => self.miss(threat, x),
            }
            return;
        };
        if stop == Stop::Nearest {
            self.seek(threat, reached, seen.margin, x);
        }
        let stronger = self.strongest.as_ref().is_none_or(|p| seen.margin < p.margin);
        let candidate = reached && self.improves(threat, stop, seen.margin, x);
        if !(stronger || candidate) {
            return;
        }
        if threat.admits(&self.clean, x) {
            let point = Point { x: x.to_vec(), margin: seen.margin, run };
            self.place = self.place.filter(|p| matches!(p, Place::Moved(_)));
            if stronger {
                self.strongest = Some(point.clone());
            }
            if candidate {
                self.candidate = Some(point);
            }
        } else {
            self.miss(threat, x);
        }
    }

    /// Remembers how far outside an illegal point lies, until a legal one is seen.
    fn miss(&mut self, threat: &ThreatModel, x: &[f32]) {
        if self.strongest.is_some() || self.found.is_some() {
            return;
        }
        // An outcome is JSON, which has no infinity.
        let by = Some(threat.beyond(&self.clean, x)).filter(|b| b.is_finite()).unwrap_or(f64::MAX);
        match self.place {
            Some(Place::Outside(nearest)) if nearest <= by => {}
            _ => self.place = Some(Place::Outside(by)),
        }
    }

    /// Keeps the nearest success that the domain allows and the ball does not.
    fn seek(&mut self, threat: &ThreatModel, reached: bool, margin: f64, x: &[f32]) {
        self.sought = true;
        let free = ThreatModel { region: Region::Box, input: threat.input.clone(), access: threat.access };
        if !reached || !free.admits(&self.clean, x) {
            return;
        }
        let distance = threat.distance(threat.norm().unwrap_or(Norm::L2), &self.clean, x);
        if distance > threat.eps() && self.near.as_ref().is_none_or(|(d, _)| distance < *d) {
            self.near = Some((distance, Point { x: x.to_vec(), margin, run: 0 }));
        }
    }

    /// The nearest success outside the ball, for samples without one inside.
    pub fn outside(&mut self) -> Option<Point> {
        self.near.take().filter(|_| self.found.is_none()).map(|(_, p)| p)
    }

    /// Puts a legal point that no model has seen before the judge.
    pub fn offer(&mut self, threat: &ThreatModel, x: &[f32]) {
        if threat.admits(&self.clean, x) {
            self.strongest = Some(Point { x: x.to_vec(), margin: f64::INFINITY, run: 0 });
        } else {
            self.miss(threat, x);
        }
    }

    /// Whether a success at `x` would replace what is pending or confirmed.
    fn improves(&self, threat: &ThreatModel, stop: Stop, margin: f64, x: &[f32]) -> bool {
        match stop {
            Stop::AtFirst | Stop::Never => {
                let confirmed = self.found.as_ref().is_none_or(|f| stop == Stop::Never && margin < f.pred.margin);
                confirmed && self.candidate.as_ref().is_none_or(|c| margin < c.margin)
            }
            Stop::Nearest => {
                let norm = threat.norm().unwrap_or(Norm::L2);
                let here = threat.distance(norm, &self.clean, x);
                let nearer = |other: &[f32]| here < threat.distance(norm, &self.clean, other);
                self.found.as_ref().is_none_or(|f| nearer(&f.x)) && self.candidate.as_ref().is_none_or(|c| nearer(&c.x))
            }
        }
    }

    /// Takes the judge's word on a point that `stage` reached.
    pub fn confirm(&mut self, threat: &ThreatModel, stage: &str, point: Confirmed) {
        let distance = threat.norm().map(|n| threat.distance(n, &self.clean, &point.x));
        self.queries.get_or_insert(self.cost.search.forward);
        self.stage.get_or_insert_with(|| stage.to_string());
        self.found = Some(Confirmed { distance, ..point });
    }
}
