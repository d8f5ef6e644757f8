/** Signals possible changes in the change log, by PostgreSQL notifications and by polling. */
import { ChangeLog } from "#store/ChangeLog.ts"
import { Intervals } from "#time/Intervals.ts"
import { Context, Effect, Layer, Schedule, type Scope } from "effect"

export class ChangeNotifier extends Context.Service<ChangeNotifier, {
  /**
   * Runs `wake` whenever the log may have new changes: on every notification, after every new LISTEN, and every
   * `changePollInterval` (2 s). The poll bounds the delay of a change whose notification is lost. Its fibers live until the scope
   * closes.
   */
  runOnChange(wake: Effect.Effect<void>): Effect.Effect<void, never, Scope.Scope>
}>()("control/feed/ChangeNotifier") {
  static readonly layer = Layer.effect(
    ChangeNotifier,
    Effect.gen(function*() {
      const log = yield* ChangeLog
      const { changePollInterval, listenProbeInterval } = yield* Intervals

      const runOnChange = Effect.fn("ChangeNotifier.runOnChange")(function*(wake: Effect.Effect<void>) {
        yield* log.listen(wake).pipe(
          Effect.tapError((error) =>
            Effect.logWarning(`cannot listen for change notifications, polling instead: ${error.message}`)
          ),
          Effect.retry(listenRetrySchedule),
          Effect.forkScoped
        )
        yield* Effect.forkScoped(Effect.repeat(Effect.ignore(log.sendProbe), Schedule.spaced(listenProbeInterval)))
        yield* Effect.forkScoped(Effect.repeat(wake, Schedule.spaced(changePollInterval)))
      })

      return ChangeNotifier.of({ runOnChange })
    })
  )
}

const listenRetrySchedule = Schedule.min([Schedule.exponential("100 millis"), Schedule.spaced("1 second")])
