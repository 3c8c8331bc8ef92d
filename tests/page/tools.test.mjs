// The page's own tools: what they return, when they ring, and when the conversation ends.

import assert from "node:assert/strict";
import { test } from "node:test";

import { DEFAULTS, handshake } from "../../web/settings.js";
import { TOOLS, Tools } from "../../web/tools.js";

function world() {
  const happened = [];
  const waiting = [];
  const tools = new Tools(
    { ring: (text) => happened.push(text), hangUp: () => happened.push("hung up") },
    {
      now: () => new Date(2026, 10, 25, 17, 20),
      later: (run, milliseconds) => waiting.push({ run, milliseconds }),
    },
  );
  const call = (name, values = {}, turn = 1) => tools.result({ turn, id: "c1", name, arguments: values });
  return { tools, happened, waiting, call };
}

test("they are offered where the person allows it and answers are wanted", () => {
  assert.ok(!("tools" in handshake(DEFAULTS, [])));
  assert.equal(handshake({ ...DEFAULTS, tools: true }, []).tools, TOOLS);
  assert.ok(!("tools" in handshake({ ...DEFAULTS, tools: true, reply: false }, [])));
});

test("it tells the time and the date", () => {
  const { id, output, failed } = world().call("get_time");
  assert.equal(id, "c1");
  assert.match(output, /Wednesday, November 25, 2026.*5:20/);
  assert.equal(failed, undefined);
});

test("a timer rings when it is up, with its label", () => {
  const { call, waiting, happened } = world();
  assert.match(call("set_timer", { seconds: 300, label: "the eggs" }).output, /5:25:00/);
  assert.equal(waiting[0].milliseconds, 300000);
  waiting[0].run();
  call("set_timer", { seconds: 1 });
  waiting[1].run();
  assert.deepEqual(happened, ["The timer is up: the eggs", "The timer is up."]);
});

test("what is no timer is a failure that the model is told", () => {
  const { call, waiting } = world();
  for (const seconds of [0, -1, 1e9, Number.NaN, "soon", undefined]) {
    assert.equal(call("set_timer", { seconds }).failed, true, String(seconds));
  }
  assert.equal(waiting.length, 0);
  for (let count = 0; count < 10; count += 1) assert.ok(!call("set_timer", { seconds: 5 }).failed);
  assert.match(call("set_timer", { seconds: 5 }).output, /10 timers already/);
  waiting[0].run();
  assert.ok(!call("set_timer", { seconds: 5 }).failed);
});

test("the conversation ends after the goodbye, not before it", () => {
  const { call, tools, happened } = world();
  tools.replied(1);
  assert.match(call("end_conversation", {}, 3).output, /goodbye/);
  tools.replied(2);
  assert.deepEqual(happened, []);
  tools.replied(3);
  tools.replied(3);
  assert.deepEqual(happened, ["hung up"]);
});

test("a new session forgets that the last one was to end", () => {
  const { call, tools, happened } = world();
  call("end_conversation", {}, 3);
  tools.reset();
  tools.replied(4);
  assert.deepEqual(happened, []);
});

test("a tool that the page has not is a failure", () => {
  assert.match(world().call("reboot").output, /no tool reboot/);
});
