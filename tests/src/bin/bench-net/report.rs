//! The report: JSON, and tables for people.

use std::{collections::BTreeMap, fmt::Write};

use rorqual_tests::{Series, document::table};
use serde::Serialize;

use crate::{
    product::Product,
    rows::{ROWS, Row},
};

/// All results of a run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// When it began, UTC.
    pub(crate) date: String,
    /// Processors the benchmark may use.
    pub(crate) processors: usize,
    /// The host's kernel.
    pub(crate) kernel: String,
    /// Load of the last minute before.
    pub(crate) load_before: f64,
    /// Rounds.
    pub(crate) runs: usize,
    /// Seconds of each load.
    pub(crate) seconds: u32,
    /// The compared packages, with their versions.
    pub(crate) versions: Vec<String>,
    /// The results.
    pub(crate) networks: Vec<Figures>,
}

/// Results of one product, by the keys of [`ROWS`].
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figures {
    pub(crate) name: String,
    /// Loads that failed and were repeated.
    pub(crate) failures: usize,
    /// Loads that kept failing and have no figure in that round.
    pub(crate) given_up: usize,
    pub(crate) rows: BTreeMap<String, Series>,
}

impl Report {
    fn median(&self, product: Product, row: &Row) -> Option<f64> {
        let figures = self.networks.iter().find(|figures| figures.name == product.name())?;
        figures.rows.get(row.key).map(|series| series.median)
    }

    /// How many times as good Rorqual is as `other`.
    fn ahead(&self, other: Product, row: &Row) -> Option<f64> {
        let (ours, other) = (self.median(Product::Rorqual, row)?, self.median(other, row)?);
        Some(if row.less { other / ours } else { ours / other })
    }

    pub(crate) fn to_markdown(&self) -> String {
        let Self { date, processors, kernel, load_before, runs, seconds, .. } = self;
        let mut text = format!(
            "{date}; {processors} CPUs, {kernel}; load before the run {load_before:.2}; \
             medians of {runs}, loads of {seconds} s. {}.\n\n",
            self.versions.join(", ")
        );
        let head =
            ["", "Rorqual's gateway", "passt", "gvproxy", "host's loopback", "ahead of passt", "ahead of gvproxy"];
        let rows = ROWS.iter().map(|row| {
            let figure = |product| self.median(product, row).map_or("-".to_owned(), row.show);
            let ahead = |other| self.ahead(other, row).map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
            let figures = Product::ALL.map(figure);
            let title = [row.title.to_owned()];
            title.into_iter().chain(figures).chain([Product::Passt, Product::Gvproxy].map(ahead)).collect()
        });
        text += &table(&head, rows);
        text += "\n\"Ahead\" is how many times as good Rorqual's figure is: \
            more of what should be much, less of what should be little.\n\
            gvproxy attaches by the kernel's vector driver, which has no offloads for its kind of socket and an \
            MTU of 1500; the others by virtio.\n";
        for Figures { name, failures, given_up, .. } in self.networks.iter().filter(|figures| figures.failures > 0) {
            let given_up =
                if *given_up > 0 { format!(" Given up, without a figure: {given_up}.") } else { String::new() };
            // Writing to a `String` cannot fail.
            writeln!(text, "\nLoads that failed behind {name} and were done again: {failures}.{given_up}").ok();
        }
        for other in [Product::Passt, Product::Gvproxy] {
            let behind: Vec<&str> = ROWS
                .iter()
                .filter(|row| self.ahead(other, row).is_some_and(|ratio| ratio <= 1.0))
                .map(|row| row.title)
                .collect();
            let measured = ROWS.iter().any(|row| self.ahead(other, row).is_some());
            let verdict = match (measured, behind.is_empty()) {
                (false, _) => "not measured".to_owned(),
                (true, true) => "met".to_owned(),
                (true, false) => format!("**not met** in: {}", behind.join("; ")),
            };
            // Writing to a `String` cannot fail.
            writeln!(text, "\nGoal, ahead of {} in every row: {verdict}.", other.name()).ok();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(product: Product, key: &str, value: f64) -> Figures {
        let rows = [(key.to_owned(), Series::of(vec![value]))].into();
        Figures { name: product.name().to_owned(), failures: 0, given_up: 0, rows }
    }

    fn report(networks: Vec<Figures>) -> String {
        let (date, kernel) = (String::new(), String::new());
        let versions = Vec::new();
        Report { date, processors: 2, kernel, load_before: 0.1, runs: 1, seconds: 1, versions, networks }.to_markdown()
    }

    #[test]
    fn ahead_is_more_of_a_rate_and_less_of_a_time() {
        let text = report(vec![figures(Product::Rorqual, "out_1", 3e9), figures(Product::Passt, "out_1", 2e9)]);
        assert!(text.contains("| 3.00 Gbit/s | 2.00 Gbit/s | - | - | 1.50 | - |"), "{text}");
        assert!(text.contains("ahead of passt in every row: met"), "{text}");
        assert!(text.contains("ahead of gvproxy in every row: not measured"), "{text}");
        let key = "request_out_p50";
        let text = report(vec![figures(Product::Rorqual, key, 3e-5), figures(Product::Passt, key, 2e-5)]);
        assert!(text.contains("| 30 µs | 20 µs | - | - | 0.67 | - |"), "{text}");
        assert!(text.contains("**not met** in: request from the guest, p50."), "{text}");
    }
}
