// @openai/agents-realtime in the hands of agents_realtime.py: JSON lines in (what to do) and out
// (what the library told its user). `node agents_realtime.mjs PORT LISTENS TOOLS`
import { createInterface } from "node:readline";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [port, folder, listens, tools, instructions, lampSays] = process.argv.slice(2);
const require = createRequire(pathToFileURL(`${folder}/`));
const { RealtimeAgent, RealtimeSession, tool } = await import(
  pathToFileURL(require.resolve("@openai/agents-realtime").replace(/\.js$/, ".mjs"))
);
const { z } = require("zod");

const tell = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);

const lamp = tool({
  name: "turn_on_lamp",
  description: "Turn on the lamp of a room.",
  parameters: z.object({ room: z.string() }),
  execute: async ({ room }) => {
    tell({ call: room });
    return lampSays;
  },
});
const agent = new RealtimeAgent({ name: "a", instructions, tools: tools === "yes" ? [lamp] : [] });
const session = new RealtimeSession(agent, {
  transport: "websocket",
  config: {
    audio: {
      input: {
        transcription: { model: "whisper-1" },
        turnDetection: listens === "yes" ? { type: "server_vad" } : null,
      },
    },
  },
});
session.on("audio", (event) => tell({ sound: event.data.byteLength }));
session.on("audio_interrupted", () => tell({ interrupted: true }));
session.on("error", (event) => tell({ error: JSON.stringify(event.error) }));
session.transport.on("*", (event) => {
  tell({ event: event.type });
  if (event.type === "conversation.item.input_audio_transcription.completed") {
    tell({ said: event.transcript });
  } else if (event.type === "response.done") {
    const parts = event.response.output.flatMap((item) => item.content ?? []);
    tell({ reply: parts.map((part) => part.transcript ?? "").join(" ") });
  }
});
await session.connect({ apiKey: "x", url: `ws://127.0.0.1:${port}/v1/realtime?model=x` });
tell({ connected: true });

for await (const line of createInterface({ input: process.stdin })) {
  const { append, type, commit, blunder } = JSON.parse(line);
  if (append !== undefined) {
    const bytes = Buffer.from(append, "base64");
    session.sendAudio(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
  } else if (type !== undefined) session.sendMessage(type);
  else if (commit) {
    session.transport.sendEvent({ type: "input_audio_buffer.commit" });
    session.transport.sendEvent({ type: "response.create" });
  } else if (blunder) {
    session.transport.sendEvent({ type: "conversation.item.delete", item_id: "nobody" });
  }
}
session.close();
process.exit(0);
