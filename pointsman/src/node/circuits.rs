//! Tells of circuits that open and close.

use std::sync::Arc;

use model::{Phase, ServiceTable};

/// What was told of each service, by its number.
#[derive(Default)]
pub(super) struct Circuits(Vec<Told>);

#[derive(Clone, Copy, Default)]
struct Told {
    opened: u64,
    open: bool,
}

impl Circuits {
    /// What there is to tell since the last time.
    pub(super) fn notes(&mut self, services: &[Arc<ServiceTable>]) -> Vec<String> {
        self.0.resize_with(services.len(), Told::default);
        let pairs = services.iter().zip(&mut self.0);
        pairs
            .filter_map(|(service, told)| note(service, told))
            .collect()
    }
}

fn note(service: &ServiceTable, told: &mut Told) -> Option<String> {
    let breaking = service.balancing.breaking.as_ref()?;
    let circuit = &service.admission.circuit;
    // Read first: what opens in between is told the next time.
    let (opened, phase) = (circuit.opened.value(), circuit.state().phase);
    let key = service.view();
    if opened != told.opened {
        // That it opened again after a few tried is the same story.
        let again = told.open;
        *told = Told { opened, open: true };
        let (rate, window, open) = (breaking.error_rate, breaking.window, breaking.open);
        return (!again).then(|| {
            format!(
                "service {key}: its circuit opened: {rate} % or more of its requests failed within {window:?}; \
                 it is left alone for {open:?}"
            )
        });
    }
    let closed = told.open && phase == Phase::Closed;
    told.open &= !closed;
    closed.then(|| format!("service {key}: its circuit closed: it answers again"))
}
