// Draws openapi.json: what can be asked, with an example command, and what comes back.

const specification = await (await fetch("openapi.json")).json();
const base = new URL(".", location.href).href.replace(/\/$/, "");

function element(name, text = "", className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

// It may be wider than the page: the keyboard can scroll what has the focus.
function block(text) {
  const made = element("pre", text);
  made.tabIndex = 0;
  return made;
}

// A schema as an example value: a field's type, or what its description says.
function example(schema) {
  if (!schema) return null;
  if (schema.$ref) return example(schema.$ref.split("/").slice(1).reduce((place, key) => place[key], specification));
  if (schema.anyOf) return example(schema.anyOf.find((one) => one.type !== "null"));
  if (schema.type === "array") return [schema.description ?? example(schema.items)];
  if (schema.properties) {
    return Object.fromEntries(Object.entries(schema.properties).map(
      ([key, value]) => [key, value.description && value.type !== "array" ? `${value.type ?? "value"}: ${value.description}` : example(value)]));
  }
  if (schema.additionalProperties) return { "…": example(schema.additionalProperties) };
  return schema.type ?? "value";
}

function command(path, method, operation) {
  const token = operation.security ? " -H \"Authorization: Bearer $TOKEN\"" : "";
  if (method === "get") return `curl${token} ${base}${path}`;
  const tensors = operation.requestBody.content["application/json"]?.example;
  if (tensors) return `curl${token} -d '${JSON.stringify(tensors)}' ${base}${path}`;
  return [`curl${token} --data-binary @photo.jpg ${base}${path}`,
    `curl${token} -F image=@one.jpg -F image=@two.jpg ${base}${path}`].join("\n");
}

function route(path, method, operation) {
  const section = element("section", "", "route"), title = element("h2"), code = element("code", path);
  title.append(element("span", method.toUpperCase(), "method"), code);
  section.append(title, element("p", operation.description ?? operation.summary), block(command(path, method, operation)));
  for (const { name, schema, description } of (operation.parameters ?? []).filter((one) => one.in === "query")) {
    const line = element("p");
    line.append(element("code", `?${name}=`), ` ${schema.description ?? description ?? ""}`);
    section.append(line);
  }
  for (const [status, response] of Object.entries(operation.responses)) {
    const schema = response.content?.["application/json"]?.schema;
    if (status === "200") section.append(element("p", "Answers"), block(schema ? JSON.stringify(example(schema), null, 2) : "text"));
    else {
      const line = element("p");
      line.append(element("strong", status), ` ${response.description}`);
      section.append(line);
    }
  }
  return section;
}

document.getElementById("about").textContent = specification.info.description;
document.getElementById("routes").append(...Object.entries(specification.paths).flatMap(
  ([path, methods]) => Object.entries(methods).map(([method, operation]) => route(path, method, operation))));
document.documentElement.dataset.ready = "yes";
