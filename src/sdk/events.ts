/** What a client tells its owner about itself: for logs and dashboards, nothing has to be done about it. No secret is in any of it. */
import type { Change } from "./view.ts"

export type Event =
  /** The socket is open; `auth` was sent. */
  | { readonly type: "connected" }
  /** Authenticated. `resumed`: only what was missed follows. */
  | { readonly type: "ready"; readonly resumed: boolean; readonly sessionId: string }
  /** `apply` is done with this revision. */
  | { readonly type: "applied"; readonly revision: number; readonly change: Change }
  /** `apply` has failed at this revision; what was in force before stays so. */
  | { readonly type: "nacked"; readonly revision: number; readonly code: string; readonly message: string }
  /** Control has answered with an error, or (`view_not_stored`, `unreadable`) something went wrong on this side. */
  | { readonly type: "error"; readonly code: string; readonly message: string }
  /** The connection is lost or could not be made. Null: it will not be tried again. */
  | { readonly type: "disconnected"; readonly code: number; readonly reason: string; readonly retryInMs: number | null }
  /** The end: nothing comes after it. */
  | { readonly type: "stopped"; readonly code: number; readonly reason: string }

export type Events = (event: Event) => void
