/** Events of a client for logs and dashboards. They need no reaction and contain no secrets. */
import type { ConnectionProblem } from "./connectionProblem.ts"
import type { Change } from "./view.ts"

export type ClientEvent =
  /** The socket is open; `auth` was sent. */
  | { readonly type: "connected" }
  /** Authenticated. `resumed`: Control sends only the missed changes. */
  | { readonly type: "ready"; readonly resumed: boolean; readonly sessionId: string }
  /** `apply` has succeeded for this revision. */
  | { readonly type: "applied"; readonly revision: number; readonly change: Change }
  /** `apply` has failed for this revision; the previous view stays applied. */
  | { readonly type: "nacked"; readonly revision: number; readonly code: string; readonly message: string }
  /** An error that Control has sent, or an error on this side (`view_not_stored`, `unreadable`). */
  | { readonly type: "error"; readonly code: string; readonly message: string }
  /** The connection was lost or could not be made. `retryInMs` is null if the client does not try again. */
  | {
    readonly type: "disconnected"
    readonly code: number
    /** Stable code of the cause, for example `name-not-resolved`; `reason` is the sentence about it. */
    readonly problem: ConnectionProblem
    readonly reason: string
    readonly retryInMs: number | null
  }
  /** The last event. */
  | { readonly type: "stopped"; readonly code: number; readonly reason: string }

export type OnEvent = (event: ClientEvent) => void
