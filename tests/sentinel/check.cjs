// Checks the queries of a Sentinel workbook, or of the analytic rules in an ARM template, with Microsoft's parser of the
// query language, against the table's columns:
//
//     node tests/sentinel/check.cjs FILE.json COLUMNS.txt
//
// A syntax error, an unknown column or function and a value of the wrong type are errors.
const { readFileSync } = require('node:fs');
const { join } = require('node:path');

const parser = join(__dirname, '../../target/tools/kusto/node_modules/@kusto/language-service-next');
require(join(parser, 'bridge.js'));
require(join(parser, 'Kusto.Language.Bridge.js'));
const { GlobalState, KustoCode, Symbols } = Kusto.Language;

const [file, columns] = process.argv.slice(2);
const lines = readFileSync(columns, 'utf8').split('\n').filter((line) => line && !line.startsWith('#'));
const schema = lines.map((line) => line.split(' ')).map(([name, type]) => `${name}: ${type === 'boolean' ? 'bool' : type}`);
const table = new Symbols.TableSymbol.$ctor7('ConfluenceAuditLogs_CL', `(${schema.join(', ')})`, null);
const database = new Symbols.DatabaseSymbol.ctor('workspace', [table]);
const state = GlobalState.Default.WithDatabase(database);

let [failures, queries] = [0, 0];

function check(name, query) {
    queries += 1;
    const found = KustoCode.ParseAndAnalyze(query, state).GetDiagnostics();
    for (let index = 0; index < found.Count; index += 1) {
        const one = found.getItem(index);
        console.log(`${name}: ${one.Message} at ${query.slice(one.Start, one.End)}`);
        failures += 1;
    }
}

const text = JSON.parse(readFileSync(file, 'utf8'));
for (const item of text.items || []) {
    // What the workbook puts in place of its parameter.
    if (item.type === 3) check(item.name, item.content.query.replaceAll('{TimeRange:grain}', '1h').replaceAll('{TimeRange}', '>= ago(7d)'));
}
for (const rule of text.resources || []) {
    check(rule.properties.displayName, rule.properties.query);
}
console.log(`${queries} queries, ${failures} errors`);
process.exit(failures === 0 && queries > 0 ? 0 : 1);
