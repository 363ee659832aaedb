"""Queries of the desk's turn: written as querysets, compiled to SQL once, and run again with other values.

Half of a turn's time went into building the same dozen statements anew. A `Slot` stands where a value will be:

    OFFER = PreparedSelect(lambda: Offer.objects.filter(pk=Slot("pk", BigIntegerField())))
    offer = OFFER.first(pk=7)
"""

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any, Generic, TypeVar

from django.db import connection, transaction
from django.db.models import Field, Model, QuerySet, Value
from django.db.models.query import get_related_populators
from django.db.models.sql import UpdateQuery

M = TypeVar("M", bound=Model)


class Slot(Value):
    """The place of a value that is given when the query runs, and converted as this field converts its values."""

    def __init__(self, name: str, output_field: "Field[Any, Any]") -> None:
        super().__init__(name, output_field=output_field)

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, tuple[Any, ...]]:
        return "%s", (self,)

    def fill(self, values: dict[str, Any]) -> Any:
        return self.output_field.get_db_prep_value(values[self.value], connection=connection)


def _fill(params: Iterable[Any], values: dict[str, Any]) -> list[Any]:
    return [param.fill(values) if isinstance(param, Slot) else param for param in params]


class PreparedSelect(Generic[M]):
    """A SELECT of one row, with its related rows."""

    def __init__(self, make: Callable[[], QuerySet[M]]) -> None:
        self.make = make

    def first(self, **values: Any) -> M | None:
        """The first row, with all that `select_related` and `annotate` ask for; None where there is none."""
        with connection.cursor() as cursor:
            cursor.execute(self._statement.sql, _fill(self._statement.params, values))
            row = cursor.fetchone()
        return None if row is None else self._statement.build(list(row))

    @cached_property
    def _statement(self) -> "_Select[M]":
        return _Select(self.make()[:1])


class _Select(Generic[M]):
    """The compiled statement, and how its row becomes an instance: as in Django's own ModelIterable."""

    def __init__(self, queryset: QuerySet[M]) -> None:
        compiler: Any = queryset.query.get_compiler(connection=connection)
        self.sql, self.params = compiler.as_sql()
        self.model = queryset.model
        fields = compiler.klass_info["select_fields"]
        self.first, self.end = fields[0], fields[-1] + 1
        self.names = [column.target.attname for column, *_rest in compiler.select[self.first : self.end]]
        self.converters = compiler.get_converters([column for column, *_rest in compiler.select])
        populators_of: Any = get_related_populators
        self.populators = populators_of(compiler.klass_info, compiler.select, connection.alias)
        self.annotations = compiler.annotation_col_map

    def build(self, row: list[Any]) -> M:
        for column, (converters, expression) in self.converters.items():
            for convert in converters:
                row[column] = convert(row[column], expression, connection)
        made = self.model.from_db(connection.alias, self.names, row[self.first : self.end])
        for populator in self.populators:
            populator.populate(row, made)
        for name, column in self.annotations.items():
            setattr(made, name, row[column])
        return made


class PreparedUpdate(Generic[M]):
    """An UPDATE of the rows that a queryset finds."""

    def __init__(self, make: Callable[[], QuerySet[M]], **changes: Any) -> None:
        self.make, self.changes = make, changes

    def run(self, **values: Any) -> int:
        """Returns how many rows it found, as `QuerySet.update` does."""
        sql, params = self._statement
        with transaction.mark_for_rollback_on_error(), connection.cursor() as cursor:
            cursor.execute(sql, _fill(params, values))
            return int(cursor.rowcount)

    @cached_property
    def _statement(self) -> tuple[str, tuple[Any, ...]]:
        query: Any = self.make().query.chain(UpdateQuery)
        query.add_update_values(self.changes)
        sql, params = query.get_compiler(connection=connection).as_sql()
        return sql, tuple(params)
