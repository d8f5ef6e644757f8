/** Intervals and durations of background work, with production defaults that tests replace. */
import { Context, Duration } from "effect"

/**
 * All values depend on each other: a replacement keeps the proportions. A lease outlives three failed renewals, and a silent
 * client is touched twice within `presenceSweepSlack`.
 */
export interface IntervalValues {
  /** Time for which a node counts as live after a renewal of its lease. */
  readonly leaseDuration: Duration.Duration
  /** Pause between two renewals of a node's lease. */
  readonly leaseRenewInterval: Duration.Duration
  /** Extra time for clients of a draining node to connect to another node before they are shown offline. */
  readonly drainGrace: Duration.Duration
  /** Pause between two writes of `lastSeen` and delivery state of connected clients. */
  readonly presenceTouchInterval: Duration.Duration
  /** Pause between two searches for clients whose node is lost. */
  readonly presenceSweepInterval: Duration.Duration
  /** Time beyond the heartbeat timeout after which a client that was not touched is shown offline. */
  readonly presenceSweepSlack: Duration.Duration
  /** Pause between two reads of the node's mailbox of takeovers. A replaced session is closed within twice this time. */
  readonly takeoverPollInterval: Duration.Duration
  /** Pause between two exchanges of events with other nodes. An event reaches every node within twice this time. */
  readonly eventRelayInterval: Duration.Duration
  /** Pause between two reads of the delivery state of clients at other nodes, while a change waits for them. */
  readonly remoteDeliveryPollInterval: Duration.Duration
  /** Pause between two reads of the change log, and so the longest delay of a change whose notification is lost. */
  readonly changePollInterval: Duration.Duration
  /** Minimum time between two checks of a held update while the change log grows. */
  readonly lossRecheckInterval: Duration.Duration
  /**
   * Minimum time between two checks of a held update while the change log stays the same. Rows that were deleted past the
   * triggers can return past the triggers.
   */
  readonly unchangedLossRecheckInterval: Duration.Duration
  /** Pause between two probes of the connection that listens for notifications. */
  readonly listenProbeInterval: Duration.Duration
  /** Pause between two checks of the admin tokens of open requests. Streams of a revoked token end within this time. */
  readonly adminTokenCheckInterval: Duration.Duration
  /** Pause between two reads of the files of the TLS certificate and its key. */
  readonly certificatePollInterval: Duration.Duration
  /** Time for responses in progress when the API port closes. */
  readonly apiShutdownTimeout: Duration.Duration
}

export const productionIntervals: IntervalValues = {
  leaseDuration: Duration.seconds(10),
  leaseRenewInterval: Duration.millis(2_500),
  drainGrace: Duration.seconds(12),
  presenceTouchInterval: Duration.seconds(5),
  presenceSweepInterval: Duration.millis(2_500),
  presenceSweepSlack: Duration.seconds(15),
  takeoverPollInterval: Duration.seconds(1),
  eventRelayInterval: Duration.seconds(1),
  remoteDeliveryPollInterval: Duration.millis(500),
  changePollInterval: Duration.seconds(2),
  lossRecheckInterval: Duration.seconds(2),
  unchangedLossRecheckInterval: Duration.seconds(10),
  listenProbeInterval: Duration.seconds(5),
  adminTokenCheckInterval: Duration.seconds(1),
  certificatePollInterval: Duration.seconds(5),
  apiShutdownTimeout: Duration.seconds(2)
}

export const Intervals = Context.Reference<IntervalValues>("control/time/Intervals", {
  defaultValue: () => productionIntervals
})
