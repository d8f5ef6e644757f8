/** Help of every command: descriptions, and an example that works. */
import { control, runControl } from "#cli/control.ts"
import { Environment } from "#cli/environment.ts"
import { temporaryDirectory } from "#support/temporaryFiles.ts"
import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Console, Effect, Exit, Option } from "effect"
import { CliError, CliOutput, type Command, type HelpDoc } from "effect/cli"

/** The words of every command after `control`. */
const pathsBelow = (
  command: Command.Command.Any,
  path: ReadonlyArray<string> = []
): ReadonlyArray<ReadonlyArray<string>> => [
  path,
  ...command.subcommands.flatMap(({ commands }) =>
    commands.flatMap((subcommand) => pathsBelow(subcommand, [...path, subcommand.name]))
  )
]

const paths = pathsBelow(control)

const silentConsole: Console.Console = { ...console, error: () => {}, log: () => {} }

const helpOf = (path: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const docs: Array<HelpDoc.HelpDoc> = []
    const present = (event: CliOutput.Presenter.Event) =>
      Effect.sync(() => {
        if (event._tag === "Help") docs.push(event.helpDoc)
      })
    yield* runControl([...path, "--help"]).pipe(Effect.provide(CliOutput.layerPresenter({ present })))
    const [doc] = docs
    assert.isDefined(doc)
    return doc
  }).pipe(Effect.provide(NodeServices.layer))

/** A verb or a noun: one capital letter, and none of the words with which a comment or a clause begins. */
const beginsWell =
  /^(?!(?:What|Who|Whose|Which|Where|When|How|It|Its|Of|That|This|True|Only|Whether|Not?|So|At|For|If) )[A-Z][A-Za-z]+/u

describe("the help of control", () => {
  it("the help covers the whole API", () => assert.isAbove(paths.length, 45))

  it.effect.each(paths.map((path) => ["control", ...path].join(" ")))(
    "%s has descriptions and an example",
    (words) =>
      Effect.gen(function*() {
        const doc = yield* helpOf(words.split(" ").slice(1))
        assert.match(doc.description, beginsWell)
        for (const { description, name } of [...doc.flags, ...doc.args ?? []]) {
          const text = Option.getOrElse(description, () => "")
          assert.match(text, beginsWell, `${words} ${name}`)
          assert.notMatch(text, /[.;:]$|`/u, `${words} ${name}`)
        }
        assert.isNotEmpty(doc.examples ?? [], words)
        for (const { command } of doc.examples ?? []) {
          assert.isTrue(command === words || command.startsWith(`${words} `), command)
        }
      })
  )

  it.live("the help has examples that the command line accepts", () =>
    Effect.gen(function*() {
      const env = { CONTROL_API_URL: "http://127.0.0.1:9", CONTROL_DATA_DIR: yield* temporaryDirectory }
      for (const path of paths) {
        for (const { command } of (yield* helpOf(path)).examples ?? []) {
          const exit = yield* runControl(command.split(" ").slice(1)).pipe(
            Effect.provide(NodeServices.layer),
            Effect.provideService(Console.Console, silentConsole),
            Effect.provideService(Environment, { ...env, CONTROL_ADMIN_TOKEN: "x".repeat(32) }),
            Effect.exit
          )
          assert.isTrue(Exit.isFailure(exit), command)
          const error = Exit.findErrorOption(exit)
          assert.isFalse(Option.exists(error, CliError.isCliError), `${command}: ${JSON.stringify(error)}`)
        }
      }
    }))
})
