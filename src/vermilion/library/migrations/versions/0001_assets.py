"""Assets, their parents, and the words that they are found by.

A published migration is never edited: a later one changes what it made.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "asset",
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("media_type", sa.Text, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("suffix", sa.Text, nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("recipe", sa.Text, nullable=False),
        sa.Column("notes", sa.Text, nullable=False),
        sa.Column("set_id", sa.Text),
        sa.Column("step", sa.Text),
        sa.Column("index", sa.Integer, nullable=False),
        sa.Column("licence", sa.Text, nullable=False),
        sa.Column("rating", sa.Integer),
        sa.PrimaryKeyConstraint("number", name="pk_asset"),
        sa.UniqueConstraint("id", name="uq_asset_id"),
        sa.CheckConstraint("rating BETWEEN 1 AND 5", name=op.f("ck_asset_rating")),
    )
    op.create_index("ix_asset_kind", "asset", ["kind"])
    op.create_index("ix_asset_set_id", "asset", ["set_id"])
    op.create_index("ix_asset_sha256_suffix", "asset", ["sha256", "suffix"])

    op.create_table(
        "asset_parent",
        sa.Column("asset_id", sa.Text, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("parent_id", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("asset_id", "position", name="pk_asset_parent"),
        sa.ForeignKeyConstraint(
            ["asset_id"], ["asset.id"], name="fk_asset_parent_asset_id_asset", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_asset_parent_parent_id", "asset_parent", ["parent_id"])

    # Without the prefix lists, a query that ends in one letter reads a good part of the index.
    op.execute(
        "CREATE VIRTUAL TABLE asset_words USING fts5("
        "text, prompt, tokenize = 'unicode61 remove_diacritics 2', prefix = '1 2 3')"
    )
