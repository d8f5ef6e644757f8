/** Options of a program: command line, environment and env file, with one table for parsing, help and documentation. */
import { readFileSync } from "node:fs"
import { parseArgs, parseEnv } from "node:util"

/** One option. `--name VALUE`, or the environment variable `variable`. */
export interface Option<Value> {
  readonly name: string
  readonly variable: string
  /** Placeholder of the value in the help, for example `HOST:PORT`; undefined for a switch. */
  readonly metavar: string | undefined
  readonly description: string
  /** Text of the default value; undefined if the option can be absent. */
  readonly default: string | undefined
  /** Whether the option can be given more than once, or as a list with commas. */
  readonly isList?: boolean
  /** Whether the value is a secret, which comes by the environment or a file only (`VARIABLE_FILE`). */
  readonly isSecret?: boolean
  /** Whether the program cannot start without it. */
  readonly isRequired?: boolean
  /** The value of a text. Throws an `OptionProblem` that says what is allowed. */
  readonly parse: (text: string) => Value
}

/** The text of an option is not allowed. The message completes "expected". */
export class OptionProblem extends Error {}

export type Options = Readonly<Record<string, Option<unknown>>>

/** Values of options: undefined where an option without a default is absent. */
export type OptionValues<Table extends Options> = {
  readonly [Key in keyof Table]: Table[Key] extends Option<infer Value> ? Table[Key]["isRequired"] extends true ? Value
    : Table[Key]["default"] extends string ? Value
    : Value | undefined
    : never
}

export type ParsedOptions<Table extends Options> =
  | { readonly _tag: "Help" }
  | { readonly _tag: "Problems"; readonly problems: ReadonlyArray<string> }
  | { readonly _tag: "Values"; readonly values: OptionValues<Table> }

/**
 * Reads options. The command line takes precedence over the env file (`--env-file FILE`), which takes precedence over the
 * environment. Every problem is returned, not only the first. No problem contains the value of a secret.
 */
export const readOptions = <Table extends Options>(
  table: Table,
  args: ReadonlyArray<string>,
  environment: Readonly<Record<string, string | undefined>>
): ParsedOptions<Table> => {
  const given = readArguments(table, args)
  if (typeof given === "string") return { _tag: "Problems", problems: [given] }
  if (given["help"] === true) return { _tag: "Help" }
  const problems: Array<string> = []
  const attempt = <Value>(read: () => Value): Value | undefined => {
    try {
      return read()
    } catch (error) {
      problems.push(reasonOf(error))
      return undefined
    }
  }
  const file = typeof given["env-file"] === "string" ? given["env-file"] : undefined
  const variables = { ...environment, ...file === undefined ? {} : attempt(() => readEnvFile(file)) }
  const values = Object.fromEntries(
    Object.entries(table).map(([key, option]) => [key, attempt(() => valueOf(option, given[option.name], variables))])
  )
  return problems.length > 0
    ? { _tag: "Problems", problems }
    : { _tag: "Values", values: values as OptionValues<Table> }
}

/** The help of a program, with one line for each option. */
export const optionsHelp = (table: Options): string => {
  const rows = [
    ["--env-file FILE", "Read variables from a file, for example home.env"],
    ...Object.values(table).map((option) => [
      option.isSecret === true
        ? option.variable
        : `--${option.name}${option.metavar === undefined ? "" : ` ${option.metavar}`}`,
      `${option.description}${
        option.default === undefined || option.default === "" ? "" : ` (default: ${option.default})`
      }`
    ]),
    ["--help", "Show this help"]
  ]
  const width = Math.max(...rows.map(([left = ""]) => left.length))
  return rows.map(([left = "", right = ""]) => `  ${left.padEnd(width)}  ${right}\n`).join("")
}

/** The Markdown table of a program's page in `docs/`, with aligned columns. */
export const optionsTable = (table: Options): string => {
  const rows = [
    ["option", "variable", "default", "meaning"],
    ...Object.values(table).map(({ default: value, description, isSecret, metavar, name, variable }) => [
      isSecret === true ? "" : `\`--${name}${metavar === undefined ? "" : ` ${metavar}`}\``,
      isSecret === true ? `\`${variable}\`, \`${variable}_FILE\`` : `\`${variable}\``,
      value === undefined || value === "" ? "" : `\`${value}\``,
      description
    ])
  ]
  const widths = [0, 1, 2, 3].map((column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  const line = (cells: ReadonlyArray<string>) =>
    `| ${widths.map((width, column) => (cells[column] ?? "").padEnd(width)).join(" | ")} |`
  const [header = [], ...body] = rows
  return [line(header), line(widths.map((width) => "-".repeat(width))), ...body.map(line)].join("\n")
}

type Given = Readonly<Record<string, string | boolean | ReadonlyArray<string | boolean> | undefined>>

/** Returns a sentence if the command line cannot be read. */
function readArguments(table: Options, args: ReadonlyArray<string>): Given | string {
  const flags = Object.values(table).filter(({ isSecret }) => isSecret !== true)
  try {
    return parseArgs({
      args: [...args],
      strict: true,
      allowPositionals: false,
      allowNegative: false,
      options: {
        help: { type: "boolean", short: "h" },
        "env-file": { type: "string" },
        ...Object.fromEntries(flags.map(({ isList, metavar, name }) => [
          name,
          { type: metavar === undefined ? "boolean" : "string", multiple: isList === true } as const
        ]))
      }
    }).values
  } catch (error) {
    const reason = reasonOf(error)
    // Node's sentence, without its hint about the syntax of positional arguments.
    return (reason.split(/[.\n]/u)[0] ?? reason).replace(/^./u, (letter) => letter.toLowerCase())
  }
}

const reasonOf = (error: unknown): string => error instanceof Error ? error.message : String(error)

function readEnvFile(path: string): Readonly<Record<string, string | undefined>> {
  try {
    return parseEnv(readFileSync(path, "utf8"))
  } catch (error) {
    throw new Error(`cannot read --env-file: ${reasonOf(error)}`, { cause: error })
  }
}

function valueOf(
  option: Option<unknown>,
  given: Given[string],
  variables: Readonly<Record<string, string | undefined>>
): unknown {
  const { isList, isRequired, isSecret, metavar, name, variable } = option
  const fromArguments = given === undefined
    ? undefined
    : Array.isArray(given)
    ? given.join()
    : String(given)
  const text = fromArguments ?? textOfVariable(option, variables) ?? option.default
  const source = fromArguments === undefined ? variable : `--${name}`
  if (text === undefined || (text === "" && isList !== true)) {
    if (isRequired === true) throw new Error(`${isSecret === true ? variable : `--${name} or ${variable}`} is missing`)
    return metavar === undefined ? false : undefined
  }
  try {
    return metavar === undefined && isSecret !== true ? parseSwitch(text) : option.parse(text)
  } catch (error) {
    if (!(error instanceof OptionProblem)) throw error
    throw new Error(
      `${source}${isSecret === true ? "" : ` is ${JSON.stringify(text)}, but`} must be ${error.message}`,
      { cause: error }
    )
  }
}

function textOfVariable(
  { isSecret, variable }: Option<unknown>,
  variables: Readonly<Record<string, string | undefined>>
): string | undefined {
  const text = variables[variable]
  const file = isSecret === true ? variables[`${variable}_FILE`] : undefined
  if (text !== undefined && text !== "") return text
  if (file === undefined || file === "") return undefined
  try {
    return readFileSync(file, "utf8").trim()
  } catch (error) {
    throw new Error(`cannot read ${variable}_FILE: ${reasonOf(error)}`, { cause: error })
  }
}

function parseSwitch(text: string): boolean {
  if (["true", "1", "yes", "on"].includes(text)) return true
  if (["false", "0", "no", "off"].includes(text)) return false
  throw new OptionProblem("true or false")
}

/** Parsers of values that several options share. */
export const optionValues = {
  text: (text: string): string => text,
  list: (text: string): ReadonlyArray<string> =>
    text.split(",").map((item) => item.trim()).filter((item) => item !== ""),
  port: (text: string): number => {
    const port = /^\d{1,5}$/u.test(text) ? Number(text) : Number.NaN
    if (!(port <= 65_535)) throw new OptionProblem("a port from 0 to 65535")
    return port
  },
  count: (text: string): number => {
    if (!/^[1-9]\d{0,8}$/u.test(text)) throw new OptionProblem("a whole number from 1 to 999999999")
    return Number(text)
  },
  seconds: (text: string): number => {
    const [, number, unit] = /^(\d+(?:\.\d+)?) ?(ms|s|m|h)?$/u.exec(text) ?? []
    if (number === undefined) throw new OptionProblem("a duration such as 30s, 500ms or 5m")
    return Number(number) * { ms: 0.001, s: 1, m: 60, h: 3_600 }[unit ?? "s"]!
  },
  choice: <const Choices extends ReadonlyArray<string>>(choices: Choices) => (text: string): Choices[number] => {
    if (!choices.includes(text)) throw new OptionProblem(choices.slice(0, -1).join(", ") + ` or ${choices.at(-1)}`)
    return text
  },
  hostAndPort: (text: string): { readonly host: string; readonly port: number } => {
    const [, bracketed, plain, port] = /^(?:\[([^\]]+)\]|([^:]*)):(\d{1,5})$/u.exec(text) ?? []
    const host = bracketed ?? plain
    if (host === undefined || !(Number(port) <= 65_535)) {
      throw new OptionProblem("HOST:PORT such as 127.0.0.1:9100 or [::1]:9100")
    }
    return { host: host === "" ? "::" : host, port: Number(port) }
  }
} as const
