/** Operations of the HTTP API as commands with inputs. Pure. */
import { Api } from "#schema/api.ts"
import { Context, type Schema, SchemaAST } from "effect"
import { HttpApi, OpenApi } from "effect/http-api"

/** A parameter of a request, or a field of its body. */
export interface Input {
  /** The name in the API, such as `listenPort`. */
  readonly name: string
  readonly location: "path" | "query" | "body"
  readonly type: "string" | "number" | "boolean" | "list" | "object"
  readonly isNullable: boolean
  readonly isRequired: boolean
  /** The allowed texts; empty if any text is allowed. */
  readonly choices: ReadonlyArray<string>
}

export interface Operation {
  /** The API group, such as `agents`. */
  readonly group: string
  /** The last word of the command, such as `create`. */
  readonly verb: string
  readonly method: string
  /** The path with its parameters, such as `/api/agents/:id`. */
  readonly path: string
  /** One sentence from the API's own description. */
  readonly summary: string
  readonly inputs: ReadonlyArray<Input>
}

const verbs: Readonly<Record<string, string>> = { remove: "delete", put: "create" }

/** Returns every operation of the API, in the order of its definition. */
export const operations = (): ReadonlyArray<Operation> => {
  const all: Array<Operation> = []
  HttpApi.reflect(Api, {
    onGroup: () => {},
    onEndpoint: ({ endpoint, group, mergedAnnotations }) => {
      const bodies = [...endpoint.payload.values()].flatMap(({ schemas }) => schemas)
      all.push({
        group: group.identifier,
        verb: kebab(verbs[endpoint.identifier] ?? endpoint.identifier),
        method: endpoint.method,
        path: endpoint.path,
        summary: Context.getOrElse(mergedAnnotations, OpenApi.Summary, () => ""),
        inputs: [
          ...inputsOf("path", endpoint.params),
          ...bodies.flatMap((body) => inputsOf("body", body)),
          ...inputsOf("query", endpoint.query)
        ]
      })
    }
  })
  return all
}

/** `listenPort` → `listen-port` */
export const kebab = (name: string): string =>
  name.replaceAll(/(?<=[a-z0-9])[A-Z]/gu, (letter) => `-${letter}`).toLowerCase()

function inputsOf(location: Input["location"], schema: Schema.Top | undefined): ReadonlyArray<Input> {
  const encoded = schema === undefined ? undefined : SchemaAST.toEncoded(schema.ast)
  if (encoded === undefined || !SchemaAST.isObjects(encoded)) return []
  return encoded.propertySignatures.map(({ name, type }) => {
    const members = membersOf(type)
    return {
      name: String(name),
      location,
      type: typeOf(members.find((member) => !isAbsence(member)) ?? type),
      isNullable: members.some(SchemaAST.isNull),
      isRequired: !SchemaAST.isOptional(type),
      choices: members.filter(SchemaAST.isLiteral).map(({ literal }) => String(literal))
    }
  })
}

const membersOf = (ast: SchemaAST.AST): ReadonlyArray<SchemaAST.AST> =>
  SchemaAST.isUnion(ast) ? ast.types.flatMap(membersOf) : [ast]

const isAbsence = (ast: SchemaAST.AST): boolean => SchemaAST.isNull(ast) || SchemaAST.isUndefined(ast)

function typeOf(ast: SchemaAST.AST): Input["type"] {
  if (SchemaAST.isNumber(ast)) return "number"
  if (SchemaAST.isBoolean(ast)) return "boolean"
  if (SchemaAST.isArrays(ast)) return "list"
  return SchemaAST.isObjects(ast) ? "object" : "string"
}
