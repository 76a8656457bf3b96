def finish(plan, journal, where, result, console):
    console.print(result)
    return {"result": result, "trials": [t.status for t in journal.trials()]}
