// What the system shows of the conversation, and the keys that it lends: a headset's, the lock
// screen's, a picture-in-picture window's (Media Session).

import { t } from "./texts.js";

export class Media {
  /** `actions`: {play, pause, stop, togglemicrophone, hangup}, each a function. */
  constructor(actions, session = navigator.mediaSession) {
    this.session = session;
    this.shown = "";
    for (const [action, handler] of Object.entries(actions)) this.handle(action, handler);
  }

  handle(action, handler) {
    try {
      this.session?.setActionHandler(action, handler);
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // an action that this browser does not know
    }
  }

  /** `question`: what is being answered; `speaking`, `open`: the voice, the microphone; `muted`. */
  show({ question, speaking, open, muted }) {
    const shown = JSON.stringify([question, speaking, open, muted]);
    if (!this.session || shown === this.shown) return;
    this.shown = shown;
    this.session.playbackState = speaking ? "playing" : open ? "paused" : "none";
    this.session.setMicrophoneActive?.(open && !muted);
    this.session.metadata = new MediaMetadata({
      title: question || t("Talk with a computer that is your own"),
      artist: "WhisperFusion",
      artwork: [192, 512].map((size) => ({
        src: new URL(`icon-${size}.png`, location.href).href,
        sizes: `${size}x${size}`,
        type: "image/png",
      })),
    });
  }
}
