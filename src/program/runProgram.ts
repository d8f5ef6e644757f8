/** Starts a program: options, log, state directory, signals and exit code. */
import { homedir } from "node:os"
import { join } from "node:path"
import { systemClock } from "#processes/clock.ts"
import { stopWithParent } from "#processes/endWithParent.ts"
import { type Log, type LogLevel, makeLog } from "./log.ts"
import { type Options, optionsHelp, type OptionValues, readOptions } from "./options.ts"

// oxlint-disable-next-line no-restricted-properties -- the one place where programs read the environment
const environment: Readonly<Record<string, string | undefined>> = process.env

export interface ProgramStart<Table extends Options> {
  readonly options: OptionValues<Table>
  readonly stateDir: string
  readonly log: Log
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly stop: AbortSignal
}

interface CommonValues {
  readonly stateDir: string | undefined
  readonly logLevel: LogLevel
  readonly logFormat: "pretty" | "json" | undefined
}

export interface ProgramDescription<Table extends Options> {
  /** For example `control agent run`. */
  readonly command: string
  /** Name of the directory below the default state directory. */
  readonly name: string
  readonly summary: string
  readonly example: string
  readonly table: Table
  readonly run: (start: ProgramStart<Table>) => Promise<number>
}

const usageError = 2

/**
 * Ends the process with the program's exit code: 0 after a drain, 1 for a failure, 2 for a wrong option. The first SIGTERM or
 * SIGINT drains, a second one ends the process at once.
 */
export const runProgram = async <Table extends Options>(program: ProgramDescription<Table>): Promise<void> => {
  const parsed = readOptions(program.table, process.argv.slice(2), environment)
  if (parsed._tag === "Help") {
    process.stdout.write(
      `${program.summary}\n\nUsage: ${program.command} [options]\n\nOptions:\n${
        optionsHelp(program.table)
      }\nExample:\n  ${program.example}\n`
    )
    return
  }
  if (parsed._tag === "Problems") {
    process.stderr.write(`control: ${parsed.problems.join("; ")}; see ${program.command} --help\n`)
    process.exitCode = usageError
    return
  }
  stopWithParent()
  const { logFormat, logLevel, stateDir } = parsed.values as CommonValues
  const log = makeLog({
    level: logLevel,
    format: logFormat ?? (process.stderr.isTTY ? "pretty" : "json"),
    wall: systemClock.wall,
    write: (line) => void process.stderr.write(line)
  })
  const stop = abortOnSignal()
  try {
    process.exitCode = await program.run({
      options: parsed.values,
      stateDir: stateDir ?? defaultStateDir(program.name),
      log,
      environment,
      stop
    })
  } catch (error) {
    log.error(error instanceof Error ? error.message : String(error))
    process.exitCode = 1
  }
  // A socket of a visitor or a service must not keep a program alive that has ended.
  process.exit()
}

/** `$XDG_STATE_HOME/control/NAME` (XDG base directory specification), or `$STATE_DIRECTORY` of systemd. */
function defaultStateDir(name: string): string {
  const { STATE_DIRECTORY, XDG_STATE_HOME } = environment
  if (STATE_DIRECTORY) return STATE_DIRECTORY
  return join(XDG_STATE_HOME || join(homedir(), ".local", "state"), "control", name)
}

function abortOnSignal(): AbortSignal {
  const controller = new AbortController()
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.on(signal, () => {
      if (controller.signal.aborted) process.exit(signal === "SIGINT" ? 130 : 143)
      controller.abort()
    })
  }
  return controller.signal
}
