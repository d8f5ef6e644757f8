/** Follows the log of changes: whatever happens to notifications and connections, it looks again in time. */
import { ChangeLog } from "#store/ChangeLog.ts"
import { Intervals } from "#time/Intervals.ts"
import { Context, Effect, Layer, Schedule, type Scope } from "effect"

export class ChangeNotifier extends Context.Service<ChangeNotifier, {
  /**
   * Runs `wake` whenever there may be something new: on every notification, after every new subscription, and every two
   * seconds in any case. The fibers that do so live as long as the scope.
   */
  runOnChange(wake: Effect.Effect<void>): Effect.Effect<void, never, Scope.Scope>
}>()("control/feed/ChangeNotifier") {
  static readonly layer = Layer.effect(
    ChangeNotifier,
    Effect.gen(function*() {
      const log = yield* ChangeLog
      const { changePollInterval, listenProbeInterval } = yield* Intervals

      const follow = Effect.fn("ChangeFeed.follow")(function*(wake: Effect.Effect<void>) {
        yield* log.listen(wake).pipe(
          Effect.tapError((error) => Effect.logWarning(`notifications are lost, polling goes on: ${error.message}`)),
          Effect.retry(backOff),
          Effect.forkScoped
        )
        yield* Effect.forkScoped(Effect.repeat(Effect.ignore(log.sendProbe), Schedule.spaced(listenProbeInterval)))
        yield* Effect.forkScoped(Effect.repeat(wake, Schedule.spaced(changePollInterval)))
      })

      return ChangeNotifier.of({ runOnChange: follow })
    })
  )
}

const backOff = Schedule.min([Schedule.exponential("100 millis"), Schedule.spaced("1 second")])
