/** One connection as its client sees it: a message gives the actions and the next state. Pure. */
import type { Ack, Nack, Resync } from "#schema/clientMessages.ts"
import { Revision } from "#schema/ids.ts"
import type { Message, Welcome } from "./messages.ts"
import { type Change, follow, fromConfig, type Held, ownerOf } from "./view.ts"

export interface Conversation {
  /** Since `auth_success`. */
  readonly welcome: Welcome | undefined
  /** The newest view that has been received; nothing while a config is awaited. */
  readonly held: Held | undefined
  /** When a config was last asked for, in milliseconds of a monotonic clock. */
  readonly askedAt: number | undefined
}

export type Says = typeof Ack.Type | typeof Nack.Type | typeof Resync.Type

export type Action =
  /** Authenticated. `belongs`: what the client holds is its own, and goes on; else it is of no use any more. */
  | { readonly _tag: "Ready"; readonly welcome: Welcome; readonly belongs: boolean }
  | { readonly _tag: "Apply"; readonly held: Held; readonly change: Change }
  | { readonly _tag: "Say"; readonly message: Says }
  | { readonly _tag: "Drain"; readonly millis: number }
  | { readonly _tag: "CertificateAccepted"; readonly domain: string }
  | { readonly _tag: "Error"; readonly code: string; readonly message: string }

export type Transition = readonly [actions: ReadonlyArray<Action>, next: Conversation]

/** A connection that resumes from what is held, if anything is. */
export const initial = (held: Held | undefined): Conversation => ({ welcome: undefined, held, askedAt: undefined })

/** `at`: milliseconds of a monotonic clock. */
export const hear = (conversation: Conversation, message: Message, at: number): Transition => {
  switch (message._tag) {
    case "Welcome":
      // One is enough: another would begin heartbeats and reports once more.
      if (conversation.welcome !== undefined) return [[], conversation]
      return enter(conversation, message.welcome, at)
    case "Config": {
      const held = fromConfig(message.config)
      const change: Change = { from: "config", revision: held.revision, rows: [] }
      return [[{ _tag: "Apply", held, change }], { ...conversation, held, askedAt: undefined }]
    }
    case "Step": {
      const { held } = conversation
      const followed = held === undefined ? gap : follow(held, message.step)
      if (followed._tag === "Known") return [[], conversation]
      if (followed._tag === "Gap") return ask(conversation, "a step is missing", at)
      return [[{ ...followed, _tag: "Apply" }], { ...conversation, held: followed.held }]
    }
    case "HeartbeatAck": {
      const isBehind = conversation.held === undefined || conversation.held.revision < message.revision
      return isBehind ? ask(conversation, "behind the heartbeat_ack", at) : [[], conversation]
    }
    case "Drain":
      return [[{ _tag: "Drain", millis: message.reconnectAfterMs }], conversation]
    case "AuthError":
      return [[{ _tag: "Error", code: "auth_error", message: message.message }], conversation]
    case "CertificateAccepted":
    case "Error":
      return [[message], conversation]
    case "Unreadable":
      return [refusal(message), conversation]
    case "Unknown":
      return [[], conversation]
  }
}

/** One every five seconds is answered; a little more, since the two clocks are not one. */
const resyncEvery = 5_500

const gap = { _tag: "Gap" } as const

/** A view belongs to one client: a key that leads to another one must not be resumed with it. */
function enter(before: Conversation, welcome: Welcome, at: number): Transition {
  const { held } = before
  const belongs = held !== undefined && ownerOf(held.view) === (welcome.agentId ?? welcome.gatewayId)
  const goesOn = belongs && welcome.resumed && held.timeline === welcome.timeline
  const next: Conversation = { ...before, welcome, held: goesOn ? held : undefined }
  const ready: Action = { _tag: "Ready", welcome, belongs }
  if (goesOn || !welcome.resumed) return [[ready], next]
  const [actions, asking] = ask(next, "resumed with the view of another client", at)
  return [[ready, ...actions], asking]
}

function ask(conversation: Conversation, reason: string, at: number): Transition {
  const { askedAt } = conversation
  if (askedAt !== undefined && at - askedAt < resyncEvery) return [[], conversation]
  return [[{ _tag: "Say", message: { type: "resync", data: { reason } } }], { ...conversation, askedAt: at }]
}

/** A revision that cannot be read cannot be applied: its operators should know. */
function refusal({ reason, revision }: Extract<Message, { _tag: "Unreadable" }>): ReadonlyArray<Action> {
  const error: Action = { _tag: "Error", code: "unreadable", message: reason }
  if (revision === undefined) return [error]
  const data = { revision: Revision.make(revision), code: "unreadable", message: reason }
  return [error, { _tag: "Say", message: { type: "nack", data } }]
}
