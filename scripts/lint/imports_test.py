"""Tests of `imports.py`, on small crates made up for each."""

import pathlib
import tempfile
import unittest

import imports
import rust_source


class Imports(unittest.TestCase):
    def problems(self, **files: str) -> str:
        """What the check reports for a crate of these files; `__` in a name separates folders."""
        with tempfile.TemporaryDirectory() as folder:
            top = pathlib.Path(folder)
            for name, text in files.items():
                path = top / (name.replace("__", "/") + ".rs")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            return "\n".join(imports.check(top / "lib.rs", top))

    def test_arrows_that_point_one_way_are_accepted(self):
        self.assertEqual("", self.problems(lib="mod a; mod b;", a="use crate::b::B;", b="pub struct B;"))

    def test_a_circle_names_files_and_what_ties_them(self):
        found = self.problems(
            lib="mod a; mod b;",
            a="use crate::b::B; pub fn a() {}",
            b="pub struct B; use super::a::a;",
        )
        self.assertIn("files in a circle", found)
        self.assertIn("a.rs imports B from b.rs", found)
        self.assertIn("b.rs imports a from a.rs", found)
        self.assertNotIn("points upward", found)

    def test_a_circle_of_three_is_found(self):
        found = self.problems(
            lib="mod a; mod b; mod c;",
            a="use crate::b::B; pub struct A;",
            b="use crate::c::C; pub struct B;",
            c="use crate::a::A; pub struct C;",
        )
        self.assertIn("the shortest among 3", found)

    def test_nested_groups_are_read(self):
        found = self.problems(
            lib="mod a; mod b;",
            a="use std::{io, fmt::{self, Debug}}; use crate::{b::{inner::Deep, B as Other}, b}; pub struct A;",
            b="pub struct B; pub mod inner { pub struct Deep; } use crate::{a::{A}};",
        )
        self.assertIn("a.rs imports Deep, Other, b from b.rs", found)

    def test_a_face_passes_names_on(self):
        """`shape/mod.rs` re-exports `Round`, which uses a type of the face: no circle."""
        files = {
            "lib": "mod shape; mod user;",
            "shape__mod": "mod round; pub(crate) use round::Round; pub struct Size;",
            "shape__round": "use super::Size; pub struct Round(Size);",
            "user": "use crate::shape::Round;",
        }
        self.assertEqual("", self.problems(**files))

    def test_a_face_that_uses_what_it_passes_on_imports_it(self):
        found = self.problems(
            lib="mod shape;",
            shape__mod="mod round; pub use round::Round; pub struct Size; fn logic(_: Round) {}",
            shape__round="use super::Size; pub struct Round(Size);",
        )
        self.assertIn("shape/mod.rs imports Round from shape/round.rs", found)

    def test_names_are_followed_through_faces(self):
        found = self.problems(
            lib="mod shape; mod user;",
            shape__mod="mod round; pub use round::*;",
            shape__round="use crate::user::user; pub struct Round;",
            user="use crate::shape::Round; pub fn user() {}",
        )
        self.assertIn("user.rs imports Round from shape/round.rs", found)

    def test_an_upward_arrow_between_folders_is_found_without_a_circle_of_files(self):
        found = self.problems(
            lib="mod low; mod high;",
            low__mod="pub mod one; pub mod two;",
            low__one="pub struct One;",
            low__two="use crate::high::four::Four;",
            high__mod="pub mod three; pub mod four;",
            high__three="use crate::low::one::One;",
            high__four="pub struct Four;",
        )
        self.assertNotIn("files in a circle", found)
        self.assertIn("an arrow points upward: modules of crate in a circle", found)
        self.assertIn("low imports Four from high", found)

    def test_tests_are_left_out(self):
        files = {
            "lib": "mod a; mod b;",
            "a": "use crate::b::B; pub struct A;",
            "b": """
                pub struct B;
                #[cfg(test)]
                mod tests;
                #[cfg(test)]
                mod inline { use crate::a::A; }
                #[cfg(test)]
                use crate::a::A;
                #[cfg(all(test, target_os = "linux"))]
                fn only_for_tests() { crate::a::A; }
                #[cfg(not(test))]
                pub struct Counts;
            """,
            "b__tests": "use crate::a::A;",
        }
        self.assertEqual("", self.problems(**files))

    def test_paths_in_code_count(self):
        found = self.problems(
            lib="mod a; mod b;",
            a="pub fn a() { crate::b::b() }",
            b="use crate::a; pub fn b() { a::a(); }",
        )
        self.assertIn("a.rs imports b from b.rs", found)
        self.assertIn("b.rs imports a from a.rs", found)

    def test_comments_strings_and_macros_are_no_imports(self):
        files = {
            "lib": "mod a; mod b;",
            "a": "use crate::b::B; pub struct A;",
            "b": """
                // use crate::a::A;
                /* use /* nested */ crate::a::A; */
                /// [`crate::a::A`]
                pub struct B;
                const TEXT: &str = "crate::a::A \\" crate::a::A";
                const RAW: &str = r#"use crate::a::A;"#;
                const QUOTE: char = '"';
                fn lifetime<'a>(text: &'a str) -> impl Sized + use<'a> { text }
                macro_rules! make { () => { $crate::a::A }; }
            """,
        }
        self.assertEqual("", self.problems(**files))

    def test_modules_inside_a_file_are_that_file(self):
        self.assertEqual(
            "",
            self.problems(lib="mod a;", a="pub struct A; mod inner { use super::A; pub struct B; } use inner::B;"),
        )


class Tokens(unittest.TestCase):
    def test_characters_and_lifetimes_are_told_apart(self):
        self.assertEqual(
            ["f", "<", ">", "(", ",", ",", ")"], rust_source.tokens(r"f<'a>('x', '\'', '\u{1F600}')")
        )

    def test_raw_names_lose_their_mark(self):
        self.assertEqual(["use", "type", ";"], rust_source.tokens("use r#type;"))


if __name__ == "__main__":
    unittest.main()
