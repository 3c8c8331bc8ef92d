import assert from "node:assert/strict";
import { test } from "node:test";

import { plain, runs } from "../../web/markdown.js";

const shown = (...pieces) =>
  runs(pieces).map((piece) => piece.map(({ text, looks }) => (looks.length ? [text, ...looks] : text)));

test("marks are looks, and are not shown", () => {
  assert.deepEqual(shown("A **very** old, _nice_ one"), [["A ", ["very", "strong"], " old, ", ["nice", "em"], " one"]]);
  assert.deepEqual(shown("***Really*** ~~no~~ __yes__"), [
    [["Really", "strong", "em"], " ", ["no", "del"], " ", ["yes", "strong"]],
  ]);
  assert.deepEqual(shown("Use `ls **x**` now."), [["Use ", ["ls **x**", "code"], " now."]]);
  assert.deepEqual(shown("# Title\nText"), [[["Title", "strong"], "\nText"]]);
  assert.deepEqual(shown("- one\n* two\n- [x] three"), [["• one\n• two\n• three"]]);
  assert.deepEqual(shown("See [the page](https://a.example/b)."), [["See the page."]]);
  assert.deepEqual(shown("```js\na * b\n```\nDone."), [[["a * b\n", "code"], "Done."]]);
  assert.deepEqual(shown("\\*not\\* bold"), [["*not* bold"]]);
});

test("what one clause opens another closes", () => {
  assert.deepEqual(shown("This is **bold,", "and this** is not."), [
    ["This is ", ["bold,", "strong"]],
    [["and this", "strong"], " is not."],
  ]);
  assert.deepEqual(shown("```js", "let a = 1;", "```", "Done."), [[], [["let a = 1;", "code"]], [], ["Done."]]);
});

test("a mark without a partner is not shown either", () => {
  assert.deepEqual(plain("This **never ends"), "This never ends");
  assert.deepEqual(plain("ends here** and goes on"), "ends here and goes on");
  assert.deepEqual(plain("Warning:** be careful"), "Warning: be careful");
  assert.deepEqual(plain("---"), "");
});

test("what is no Markdown stays", () => {
  for (const text of ["2 * 3 = 6", "2**10", "3*4*5", "snake_case_name", "a < b & <b>", "5 - 3", "#5", "x_1"]) {
    assert.equal(plain(text), text);
  }
});

test("a long row of marks is read to its end, and adds nothing", () => {
  for (const unit of ["*", "`", "[", "_a", "**a ", "![](", "# ", "> ", "- "]) {
    assert.ok(plain(unit.repeat(20000)).length <= unit.length * 20000 * 2, unit);
  }
});
